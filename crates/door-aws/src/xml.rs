//! XML as the query and rest-xml protocols answer it.

use std::fmt::Write;

/// Writes elements in order; every value is escaped.
#[derive(Debug, Default)]
pub struct Xml(String);

impl Xml {
    pub fn new() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned())
    }

    /// Without the declaration in front: a part of another document.
    pub fn fragment() -> Self {
        Self::default()
    }

    pub fn open(&mut self, name: &str) -> &mut Self {
        let _ = write!(self.0, "<{name}>");
        self
    }

    /// The document's root, with its namespace.
    pub fn root(&mut self, name: &str, namespace: &str) -> &mut Self {
        let _ = write!(self.0, "<{name} xmlns=\"{namespace}\">");
        self
    }

    pub fn close(&mut self, name: &str) -> &mut Self {
        let _ = write!(self.0, "</{name}>");
        self
    }

    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        let _ = write!(self.0, "<{name}>{}</{name}>", escape(value));
        self
    }

    /// What is XML already.
    pub fn raw(&mut self, xml: &str) -> &mut Self {
        self.0.push_str(xml);
        self
    }

    pub fn finish(self) -> String {
        self.0
    }
}

/// Text that is safe between tags and in attributes. What XML 1.0 cannot hold becomes U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' | '\n' => out.push(c),
            '\r' => out.push_str("&#13;"),
            c if c < ' ' || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_break_out() {
        let mut xml = Xml::fragment();
        xml.open("a").text("b", "</b><c x='1' y=\"2\">&\u{1}\r").close("a");
        assert_eq!(xml.finish(), "<a><b>&lt;/b&gt;&lt;c x=&apos;1&apos; y=&quot;2&quot;&gt;&amp;\u{FFFD}&#13;</b></a>");
    }
}

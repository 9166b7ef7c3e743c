//! XML in and out: requests' documents as a tree of elements with text. Attributes are dropped, entities beyond
//! XML's own and document types are refused, depth and size are bounded.

use crate::{AwsError, xml::Xml};
use quick_xml::{Reader, escape::resolve_xml_entity, events::Event};

/// S3's documents are five deep.
const DEPTH_MAX: usize = 16;
/// 10,000 parts or 1,000 objects with all their members.
const ELEMENTS_MAX: usize = 100_000;
pub(crate) const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    pub name: String,
    pub text: String,
    pub children: Vec<Element>,
}

pub(crate) fn malformed() -> AwsError {
    let message = "The XML you provided was not well-formed or did not validate against our published schema";
    AwsError::new("MalformedXML", message)
}

impl Element {
    /// The document's root, which must be called `name`.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, AwsError> {
        let root = parse(bytes).filter(|root| root.name == name);
        root.ok_or_else(malformed)
    }

    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of a child.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Whether nothing is in it that is not named here.
    pub fn only(&self, names: &[&str]) -> Result<(), AwsError> {
        let known = self.children.iter().all(|child| names.contains(&child.name.as_str()));
        if known { Ok(()) } else { Err(malformed()) }
    }

    pub fn write(&self) -> String {
        let mut xml = Xml::new();
        xml.root(&self.name, NAMESPACE);
        self.write_inside(&mut xml);
        xml.close(&self.name);
        xml.finish()
    }

    fn write_inside(&self, xml: &mut Xml) {
        for child in &self.children {
            if child.children.is_empty() {
                xml.text(&child.name, &child.text);
            } else {
                xml.open(&child.name);
                child.write_inside(xml);
                xml.close(&child.name);
            }
        }
    }
}

/// `None` for what is no document of ours.
pub fn parse(bytes: &[u8]) -> Option<Element> {
    let mut reader = Reader::from_reader(bytes);
    reader.config_mut().trim_text(false);
    let (mut open, mut root, mut count): (Vec<Element>, Option<Element>, usize) = (Vec::new(), None, 0);
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                count += 1;
                if root.is_some() || open.len() == DEPTH_MAX || count > ELEMENTS_MAX {
                    return None;
                }
                let name = std::str::from_utf8(start.local_name().into_inner()).ok()?.to_owned();
                open.push(Element { name, ..Element::default() });
            }
            Event::Empty(start) => {
                count += 1;
                if root.is_some() || open.len() == DEPTH_MAX || count > ELEMENTS_MAX {
                    return None;
                }
                let name = std::str::from_utf8(start.local_name().into_inner()).ok()?.to_owned();
                close(Element { name, ..Element::default() }, &mut open, &mut root);
            }
            Event::End(_) => {
                let mut done = open.pop()?;
                if !done.children.is_empty() {
                    // White space between elements.
                    done.text.clear();
                }
                close(done, &mut open, &mut root);
            }
            Event::Text(text) => {
                let text = std::str::from_utf8(&text).ok()?;
                match open.last_mut() {
                    Some(element) => element.text.push_str(text),
                    None if text.trim().is_empty() => {}
                    None => return None,
                }
            }
            Event::CData(text) => open.last_mut()?.text.push_str(std::str::from_utf8(&text).ok()?),
            Event::GeneralRef(reference) => {
                let element = open.last_mut()?;
                match reference.resolve_char_ref().ok()? {
                    Some(char) => element.text.push(char),
                    None => element.text.push_str(resolve_xml_entity(std::str::from_utf8(&reference).ok()?)?),
                }
            }
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::DocType(_) => return None,
            Event::Eof if open.is_empty() => return root,
            Event::Eof => return None,
        }
    }
}

fn close(done: Element, open: &mut [Element], root: &mut Option<Element>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(done),
        None => *root = Some(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn documents_are_read_and_written() {
        let text = "<?xml version='1.0'?>\n<A xmlns='x'>\n <B>a&amp;b&#65;<![CDATA[<c>]]></B><x:C y='z'/> <D><E> </E></D></A>\n";
        let root = Element::parse(text.as_bytes(), "A").unwrap();
        assert_eq!(root.get("B"), Some("a&bA<c>"));
        assert_eq!(root.child("C"), Some(&Element { name: "C".into(), ..Element::default() }));
        assert_eq!(root.child("D").unwrap().get("E"), Some(" "));
        assert_eq!(parse(root.write().as_bytes()), Some(root));
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let deep = format!("{}{}", "<a>".repeat(17), "</a>".repeat(17));
        let bomb = "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>";
        for bad in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a>&b;</a>",
            "<a>&#xD800;</a>",
            "<a/>x",
            &deep,
            bomb,
            "<a>\u{0}&;</a>",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert!(Element::parse(b"<a/>", "b").is_err());
        assert_eq!(parse(b"<a>\xff</a>"), None);
        let wide = format!("<a>{}</a>", "<b/>".repeat(ELEMENTS_MAX));
        assert_eq!(parse(wide.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn text_comes_back(text in "[^\\x00-\\x1f\u{fffe}\u{ffff}]*") {
            let root = Element { name: "A".into(), text: String::new(), children: vec![Element { name: "B".into(), text, children: vec![] }] };
            prop_assert_eq!(parse(root.write().as_bytes()), Some(root));
        }
    }
}

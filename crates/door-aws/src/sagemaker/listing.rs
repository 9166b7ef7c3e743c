//! Lists: filtered, sorted, in pages.

use super::{
    Result,
    input::{Input, constraint},
    store::{Endpoint, Kept},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kilter_core::Timestamp;

const PAGE: usize = 10;
const PAGE_MAX: usize = 100;

/// What lists filter and sort by beside name and creation.
pub trait Listed: Kept {
    fn modified(&self) -> Timestamp {
        self.created()
    }
    fn status(&self) -> &'static str {
        ""
    }
}

impl Listed for super::store::Model {}
impl Listed for super::store::Config {}
impl Listed for Endpoint {
    fn modified(&self) -> Timestamp {
        self.modified
    }
    fn status(&self) -> &'static str {
        self.status.word()
    }
}

/// The page that the input asks for, and what asks for the next one.
pub fn page<T: Listed>(input: &Input<'_>, all: Vec<T>, sorts: &[&'static str]) -> Result<(Vec<T>, Option<String>)> {
    let most = input.whole("MaxResults", 1, PAGE_MAX, PAGE)?;
    let contains = input.text("NameContains")?.unwrap_or_default().to_owned();
    let status = input.text("StatusEquals")?.map(str::to_owned);
    let (before, after) = (input.time("CreationTimeBefore")?, input.time("CreationTimeAfter")?);
    let (changed_before, changed_after) = (input.time("LastModifiedTimeBefore")?, input.time("LastModifiedTimeAfter")?);
    let sort = input.choice("SortBy", sorts)?;
    let ascending = input.choice("SortOrder", &["Descending", "Ascending"])? == "Ascending";
    let from = input.text("NextToken")?.map(|token| {
        let key = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        key.ok_or_else(|| constraint(token, "NextToken", "be a token of an earlier answer"))
    });
    let from = from.transpose()?;
    // Unique, and sorts as asked.
    let key = |one: &T| match sort {
        "Name" => one.name().to_owned(),
        "Status" => format!("{}/{}", one.status(), one.name()),
        _ => format!("{}/{}", one.created().sortable(), one.name()),
    };
    let fits = |one: &T| {
        one.name().contains(&contains)
            && status.as_ref().is_none_or(|status| status == one.status())
            && before.is_none_or(|time| one.created() < time)
            && after.is_none_or(|time| one.created() > time)
            && changed_before.is_none_or(|time| one.modified() < time)
            && changed_after.is_none_or(|time| one.modified() > time)
    };
    let mut found: Vec<(String, T)> = all.into_iter().filter(fits).map(|one| (key(&one), one)).collect();
    found.sort_by(|(a, _), (b, _)| if ascending { a.cmp(b) } else { b.cmp(a) });
    if let Some(from) = from {
        found.retain(|(key, _)| if ascending { *key > from } else { *key < from });
    }
    let more = found.len() > most;
    found.truncate(most);
    let token = found.last().filter(|_| more).map(|(key, _)| URL_SAFE_NO_PAD.encode(key));
    Ok((found.into_iter().map(|(_, one)| one).collect(), token))
}

//! Objects that come in parts. A part is a file that stays where it is: completing an upload of any size moves nothing.

use super::{
    EmbeddedObjects, FILES, PARTS, bucket_in,
    commit::{Draft, from_table},
    place, sk_of, uploads,
    versions::{Put, check_key, put_version},
};
use kilter_core::ports::{objects::*, table::SkRange};

impl Uploads for EmbeddedObjects {
    fn create_upload(&self, bucket: &str, key: &str, meta: Meta, encrypted: bool) -> Result<Upload, ObjectError> {
        check_key(key)?;
        let id = format!("{:016x}", self.next_id()?);
        let upload = Upload { id, key: key.to_owned(), begun: self.clock.now(), encrypted, meta };
        let (name, made) = (bucket.to_owned(), upload.clone());
        self.change(move |draft| {
            bucket_in(draft, &name)?;
            draft.put(&uploads(&name), &made.key, &made.id, &made)
        })?;
        Ok(upload)
    }

    fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Option<Upload>, ObjectError> {
        let found = self.table.get(&uploads(bucket), key, id).map_err(|error| from_table(&error))?;
        found.as_deref().map(super::parse).transpose()
    }

    fn put_part(&self, bucket: &str, upload: &Upload, mut part: Part) -> Result<(), ObjectError> {
        let to = place::part(part.content.id);
        let settled = self.disk.settle(&mut part.content, to);
        let (id, place) = (part.content.id, part.content.place.clone());
        settled.inspect_err(|_| self.disk.unlink(&place))?;
        let (name, upload) = (bucket.to_owned(), upload.clone());
        let put = self.change(move |draft| {
            need_upload(draft, &name, &upload)?;
            let sk = part_sk(part.number);
            if let Some(replaced) = draft.get::<Part>(PARTS, &upload.id, &sk)? {
                free(draft, &replaced.content);
            }
            draft.put(FILES, "", &sk_of(id), &part.content.place)?;
            draft.put(PARTS, &upload.id, &sk, &part)
        });
        put.inspect_err(|error| {
            if error.kind != ObjectErrorKind::Io {
                self.disk.unlink(&place);
            }
        })
    }

    fn parts(&self, upload: &str, after: u32, limit: usize) -> Result<Vec<Part>, ObjectError> {
        let from = part_sk(after.saturating_add(1));
        let range = SkRange { from: &from, to: None, descending: false };
        Self::items(self.table.range(PARTS, upload, range, limit).map_err(|error| from_table(&error))?)
    }

    fn end_upload(
        &self,
        bucket: &str,
        upload: &Upload,
        object: Option<(Vec<Part>, Meta, PutCondition)>,
    ) -> Result<Option<Version>, ObjectError> {
        let (number, now) = (self.next_id()?, self.clock.now());
        let (name, upload) = (bucket.to_owned(), upload.clone());
        self.change(move |draft| {
            need_upload(draft, &name, &upload)?;
            let stored = draft.partition::<Part>(PARTS, &upload.id)?;
            let used = |part: &Part| object.as_ref().is_some_and(|(parts, ..)| parts.contains(part));
            let (kept, left): (Vec<_>, Vec<_>) = stored.iter().partition(|part| used(part));
            let version = match &object {
                Some((parts, ..)) if kept.len() != parts.len() => {
                    let message = format!("a part of upload {} was replaced meanwhile; complete it again", upload.id);
                    return Err(ObjectError::new(ObjectErrorKind::ConditionFailed, "complete", message));
                }
                Some((parts, meta, condition)) => {
                    let contents = parts.iter().map(|part| part.content.clone()).collect();
                    let (meta, condition) = (meta.clone(), condition.clone());
                    let put = Put { key: upload.key.clone(), number, now, contents, meta, condition };
                    Some(put_version(draft, &name, put)?)
                }
                None => None,
            };
            left.iter().for_each(|part| free(draft, &part.content));
            stored.iter().for_each(|part| draft.delete(PARTS, &upload.id, &part_sk(part.number)));
            draft.delete(&uploads(&name), &upload.key, &upload.id);
            Ok(version)
        })
    }

    fn uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: (&str, &str),
        limit: usize,
    ) -> Result<Vec<Upload>, ObjectError> {
        self.need_bucket(bucket)?;
        let after = if after.0 < prefix { (prefix, "") } else { after };
        let found = self.table.scan(&uploads(bucket), Some(after), limit).map_err(|error| from_table(&error))?;
        let mut found = Self::items::<Upload>(found)?;
        found.retain(|upload| upload.key.starts_with(prefix));
        Ok(found)
    }
}

fn need_upload(draft: &Draft, bucket: &str, upload: &Upload) -> Result<(), ObjectError> {
    if draft.get::<Upload>(&uploads(bucket), &upload.key, &upload.id)?.is_some() {
        return Ok(());
    }
    let message = format!("there is no upload {} of {:?}: it was completed or aborted", upload.id, upload.key);
    Err(ObjectError::new(ObjectErrorKind::NoUpload, "upload", message))
}

fn free(draft: &mut Draft, content: &Content) {
    draft.delete(FILES, "", &sk_of(content.id));
    draft.freed.push(content.place.clone());
}

fn part_sk(number: u32) -> String {
    format!("{number:05}")
}

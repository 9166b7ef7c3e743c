//! What not every service can promise.

use super::{B, Subject, all, made, put, stage};
use kilter_core::ports::objects::*;

pub fn regions(subject: &mut dyn Subject) {
    let objects = subject.fresh();
    assert!(objects.create_bucket(B, "eu-west-1").unwrap());
    assert!(!objects.create_bucket(B, "us-east-1").unwrap());
    assert_eq!(subject.reopen(objects).bucket(B).unwrap().unwrap().region, "eu-west-1");
}

pub fn settings(subject: &mut dyn Subject) {
    let objects = made(subject, Versioning::Off);
    objects.configure(B, BucketChange::Setting("tags".into(), Some("x".into()))).unwrap();
    objects.configure(B, BucketChange::Setting("gone".into(), Some("x".into()))).unwrap();
    objects.configure(B, BucketChange::Setting("gone".into(), None)).unwrap();
    let bucket = subject.reopen(objects).bucket(B).unwrap().unwrap();
    assert_eq!(bucket.settings.into_iter().collect::<Vec<_>>(), [("tags".to_owned(), "x".to_owned())]);
}

pub fn etags(subject: &mut dyn Subject) {
    let objects = made(subject, Versioning::Off);
    let published = put(&*objects, "k", b"12345");
    let objects = subject.reopen(objects);
    let found = objects.version(B, "k", None).unwrap().unwrap();
    assert_eq!((&*published.meta.etag, &*found.meta.etag), ("etag-5", "etag-5"));
    assert_eq!(all(&*objects, false)[0].meta.etag, "etag-5");
}

pub fn numbers(subject: &mut dyn Subject) {
    let objects = made(subject, Versioning::Enabled);
    let (first, second) = (put(&*objects, "k", b"first"), put(&*objects, "k", b"second"));
    assert!(first.number < second.number);
    let objects = subject.reopen(objects);
    let third = put(&*objects, "k", b"third");
    assert!(second.number < third.number);
    for version in [first, second, third] {
        assert_eq!(objects.version(B, "k", Some(&version.id)).unwrap().unwrap().number, version.number);
    }
}

pub fn encryption(subject: &mut dyn Subject) {
    let objects = made(subject, Versioning::Off);
    for encrypted in [false, true] {
        let content = stage(&*objects, b"x", encrypted);
        objects.publish(B, "k", vec![content], Meta::default(), PutCondition::Always).unwrap();
        assert_eq!(objects.version(B, "k", None).unwrap().unwrap().encrypted(), encrypted);
    }
    assert!(!objects.bucket(B).unwrap().unwrap().encrypted);
    objects.configure(B, BucketChange::Encrypted(true)).unwrap();
    objects.configure(B, BucketChange::Encrypted(false)).unwrap();
    assert!(!objects.bucket(B).unwrap().unwrap().encrypted);
}

pub fn replication(subject: &mut dyn Subject) {
    let objects = made(subject, Versioning::Enabled);
    let (old, new) = (put(&*objects, "k", b"old"), put(&*objects, "k", b"new"));
    for status in [Some(Replication::Pending), Some(Replication::Completed), None] {
        objects.amend(B, "k", &new.id, Amend::Replication(status)).unwrap();
        let found = |id: &str| objects.version(B, "k", Some(id)).unwrap().unwrap().meta.replication;
        assert_eq!((found(&old.id), found(&new.id)), (None, status));
    }
}

//! Alerts to topics, as the port `Notify` promises them.

use super::{
    store::{Subscription, WAITING_MAX},
    *,
};
use futures::future::{BoxFuture, ready};
use kilter_core::{
    Alert, AlertEvent, StreamName, TenantId, Timestamp,
    ports::{control::ControlError, notify::Notify, post::PostRequest, resources::Resource},
};
use kilter_testkit::{
    FakeClock, MemoryTable,
    notify::{self, Failure, Subject, TENANT},
};

/// Nothing is brought to subscribers here.
struct NoPost;

impl Post for NoPost {
    fn check(&self, _: &str) -> Result<(), String> {
        Ok(())
    }
    fn post(&self, _: PostRequest) -> BoxFuture<'static, Result<u16, String>> {
        ready(Err("nobody is there".to_owned())).boxed()
    }
}

struct OneTenant;

impl Resources for OneTenant {
    fn exists(&self, _: &TenantId, _: Resource) -> bool {
        true
    }
    fn list(&self, _: Resource) -> Result<Vec<(TenantId, Timestamp)>, ControlError> {
        Ok(vec![(TENANT.parse().unwrap(), Timestamp::from_seconds(0))])
    }
    fn make(&self, _: &TenantId, _: Resource) -> Result<(), ControlError> {
        Ok(())
    }
    fn remove(&self, _: &TenantId, _: Resource) -> Result<(), ControlError> {
        Ok(())
    }
    fn make_stream(&self, _: &StreamName, _: u32) -> Result<(), ControlError> {
        Ok(())
    }
    fn remove_stream(&self, _: &StreamName) -> Result<(), ControlError> {
        Ok(())
    }
}

fn open(table: Arc<dyn Table>) -> Sns {
    let clock = Arc::new(FakeClock::at(Timestamp::from_seconds(1_700_000_000)));
    let (region, account, url) = ("us-east-1".into(), "123456789012".into(), "http://localhost:4566".into());
    let resources = Arc::new(OneTenant);
    Sns::open(SnsParts { table, clock, post: Arc::new(NoPost), resources, region, account, url }).unwrap()
}

fn topic() -> String {
    TENANT.parse::<TenantId>().unwrap().alert_topic()
}

/// The tenant's topic with one subscriber.
struct Topics {
    table: Arc<dyn Table>,
    sns: Arc<Sns>,
}

impl Topics {
    fn new() -> Self {
        let table: Arc<dyn Table> = Arc::new(MemoryTable::default());
        let sns = open(table.clone());
        sns.follow_tenants().unwrap();
        let subscription = Subscription {
            id: "1".into(),
            protocol: "https".into(),
            endpoint: "https://example.com/alerts".into(),
            confirmed: true,
            token: "t".into(),
            token_until: Timestamp::from_seconds(0),
            raw: false,
            filter: None,
            filter_on_body: false,
        };
        sns.store.lock().topics.get_mut(&topic()).unwrap().subscriptions.push(subscription);
        Self { table, sns: Arc::new(sns) }
    }
}

impl Subject for Topics {
    fn fresh(&mut self) -> Arc<dyn Notify> {
        *self = Self::new();
        Arc::new(SnsService(self.sns.clone()))
    }

    /// What waits for the subscriber, as the next start would find it.
    fn arrived(&mut self) -> BoxFuture<'_, Vec<(String, Alert)>> {
        let reopened = open(self.table.clone());
        let waiting: Vec<_> = reopened.store.lock().waiting.values().cloned().collect();
        let read = |body: &str| {
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            let key = body["MessageAttributes"]["key"]["Value"].as_str().unwrap().to_owned();
            (key, serde_json::from_str(body["Message"].as_str().unwrap()).unwrap())
        };
        ready(waiting.iter().map(|one| read(&one.body)).collect()).boxed()
    }

    fn fail(&mut self, how: Option<Failure>) -> bool {
        let mut state = self.sns.store.lock();
        state.waiting.clear();
        match how {
            None => {}
            // No more may wait.
            Some(Failure::Down) => {
                let request = PostRequest { url: String::new(), headers: Vec::new(), body: "".into() };
                let one = publish::waiting("0".into(), request, Timestamp::from_seconds(0));
                state.waiting.extend((0..WAITING_MAX).map(|number| (number.to_string(), one.clone())));
            }
            // An operator has deleted the topic.
            Some(Failure::Refuses) => drop(state.topics.remove(&topic())),
        }
        true
    }
}

#[tokio::test]
async fn topics_keep_the_ports_promises() {
    notify::check(&mut Topics::new()).await;
}

#[tokio::test]
async fn an_alert_that_is_too_long_for_a_message_is_not_tried_again() {
    let notify = Topics::new().fresh();
    let long = Alert { summary: "x".repeat(256 << 10), ..notify::alert(TENANT, "k", AlertEvent::Opened) };
    let error = notify.publish(&long).await.unwrap_err();
    assert!(!error.retryable && error.message.contains("too long"), "{error:?}");
}

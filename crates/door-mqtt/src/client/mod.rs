//! A small client for Kilter's own tools: replay, the demo's plant, the benchmark, tests. Mutual TLS, QoS 0
//! and 1, many messages in flight; one background task per connection, no allocation per message beyond the
//! caller's own payload.

mod driver;
mod error;

pub use driver::connect_tls;
pub use error::ClientError;

use bytes::Bytes;
use driver::Driver;
use kilter_mqtt::{
    PacketId, QoS, ReasonCode, Version,
    client::{ClientOptions, ClientSession, PublishError},
    packet::{Codes, Will},
};
use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::{Instant, timeout},
};

/// TCP, TLS and CONNACK together.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// A server that answers no request for this long answers none.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Messages that wait to be taken; then nothing more is read, acknowledgements included, until some are.
const MESSAGES_WAITING_MAX: usize = 1024;
/// Bytes that wait to be sent; then publishing waits.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;
/// Refusals remembered for acknowledgement handles that ask late.
const REFUSALS_KEPT_MAX: usize = 1024;
/// Latencies kept between two calls of [`MqttClient::take_ack_latencies`]; later ones are not recorded.
const LATENCIES_KEPT_MAX: usize = 1 << 20;

/// Whom to connect to, and as whom. The certificates are PEM text.
#[derive(Clone)]
pub struct Options {
    /// `host:port`; the host must be named in the server's certificate.
    pub addr: String,
    pub ca_pem: String,
    pub cert_pem: String,
    pub key_pem: String,
    pub client_id: String,
    pub version: Version,
    /// QoS 1 messages in flight; the server may lower it.
    pub inflight_max: u16,
    /// Seconds; 0 asks for none.
    pub keep_alive: u16,
    pub will: Option<Will>,
}

/// A message on a subscription.
#[derive(Debug, Clone)]
pub struct Message {
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub qos: QoS,
}

/// One connection. Dropping it cuts the connection without a goodbye: the server sends the will.
pub struct MqttClient {
    shared: Arc<Shared>,
    messages: mpsc::Receiver<Message>,
    driver: JoinHandle<()>,
}

/// Tells when a message has its outcome.
pub struct AckHandle {
    shared: Arc<Shared>,
    /// `None` for QoS 0: there is no outcome to wait for.
    number: Option<u64>,
}

struct Shared {
    inner: Mutex<Inner>,
    epoch: Instant,
    /// There is something to send.
    to_send: Notify,
    /// Something has happened that a caller may be waiting for.
    happened: Notify,
}

struct Inner {
    session: ClientSession,
    ended: Option<ClientError>,
    /// The driver holds bytes that are not written yet.
    sending: bool,
    answers: Vec<Codes>,
    refused: BTreeMap<u64, ReasonCode>,
    refused_unflushed: Option<(usize, ReasonCode)>,
    latencies: Option<Latencies>,
}

#[derive(Default)]
struct Latencies {
    sent: VecDeque<Instant>,
    done: Vec<Duration>,
}

impl MqttClient {
    /// Resolves once the server has let the client in.
    pub async fn connect(options: Options) -> Result<Self, ClientError> {
        let addr = options.addr.clone();
        match timeout(CONNECT_TIME_MAX, Self::connect_unbounded(options)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ClientError::TimedOut(addr)),
        }
    }

    async fn connect_unbounded(options: Options) -> Result<Self, ClientError> {
        let stream = connect_tls(&options.addr, &options.ca_pem, &options.cert_pem, &options.key_pem).await?;
        let client = ClientOptions {
            version: options.version,
            client_id: options.client_id,
            keep_alive: options.keep_alive,
            inflight_max: options.inflight_max,
            will: options.will,
        };
        let shared = Arc::new(Shared {
            inner: Mutex::new(Inner {
                session: ClientSession::new(client, Duration::ZERO),
                ended: None,
                sending: false,
                answers: Vec::new(),
                refused: BTreeMap::new(),
                refused_unflushed: None,
                latencies: None,
            }),
            epoch: Instant::now(),
            to_send: Notify::new(),
            happened: Notify::new(),
        });
        let (sender, messages) = mpsc::channel(MESSAGES_WAITING_MAX);
        let driver = Driver::new(Arc::clone(&shared), stream, options.version, sender);
        let driver = tokio::spawn(driver.run());
        let client = Self { shared, messages, driver };
        client.shared.wait_for(|inner| inner.session.is_open().then_some(())).await?;
        Ok(client)
    }

    /// Queues a message; waits while as many are in flight as may be. Messages leave in the order of the calls.
    pub async fn publish(&self, topic: &Arc<str>, payload: Bytes, qos: QoS) -> Result<AckHandle, ClientError> {
        let number = self
            .shared
            .wait_for(|inner| {
                if inner.session.outbox().len() >= OUTBOX_BYTES_MAX {
                    return None;
                }
                let now = self.shared.epoch.elapsed();
                match inner.session.publish(topic, payload.clone(), qos, None, now) {
                    // After the end, why it ended says more than that it did.
                    Err(PublishError::WindowFull | PublishError::NotOpen) => None,
                    Ok(number) => {
                        if let (Some(latencies), Some(_)) = (&mut inner.latencies, number) {
                            latencies.sent.push_back(Instant::now());
                        }
                        Some(Ok(number))
                    }
                    Err(error) => Some(Err(ClientError::from(error))),
                }
            })
            .await??;
        self.shared.to_send.notify_one();
        Ok(AckHandle { shared: Arc::clone(&self.shared), number })
    }

    /// Waits until everything published so far has its outcome; an error when some of it was refused, since
    /// the last call. (A server of 3.1.1 does not refuse a message: it closes the connection.)
    pub async fn flush(&self) -> Result<(), ClientError> {
        let published = self.shared.lock().session.published();
        let refused = self.shared.wait_for(|inner| {
            let done = inner.session.settled() >= published && !inner.sending && inner.session.outbox().is_empty();
            done.then(|| inner.refused_unflushed.take())
        });
        match refused.await? {
            Some((count, first)) => Err(ClientError::PublishRefused { count, first }),
            None => Ok(()),
        }
    }

    /// Messages of QoS 1 that have their outcome.
    pub fn acked(&self) -> u64 {
        self.shared.lock().session.settled()
    }

    /// Records, from now on, how long each QoS 1 message takes from the call of `publish` to its PUBACK.
    pub fn record_ack_latencies(&self) {
        self.shared.lock().latencies.get_or_insert_default();
    }

    pub fn take_ack_latencies(&self) -> Vec<Duration> {
        self.shared.lock().latencies.as_mut().map(|latencies| std::mem::take(&mut latencies.done)).unwrap_or_default()
    }

    /// Resolves once the server has granted it; messages come from [`MqttClient::next_message`].
    pub async fn subscribe(&self, filter: &str, qos: QoS) -> Result<(), ClientError> {
        let now = self.shared.epoch.elapsed();
        let id = self.shared.lock().session.subscribe(&[(filter, qos)], now);
        self.answer(id).await
    }

    pub async fn unsubscribe(&self, filter: &str) -> Result<(), ClientError> {
        let now = self.shared.epoch.elapsed();
        let id = self.shared.lock().session.unsubscribe(&[filter], now);
        self.answer(id).await
    }

    async fn answer(&self, id: PacketId) -> Result<(), ClientError> {
        self.shared.to_send.notify_one();
        let answer = self.shared.wait_for(|inner| {
            let index = inner.answers.iter().position(|answer| answer.packet_id == id)?;
            Some(inner.answers.swap_remove(index))
        });
        let answer =
            timeout(ANSWER_TIME_MAX, answer).await.map_err(|_| ClientError::TimedOut("the server".into()))??;
        match answer.codes.first() {
            Some(code) if code.is_error() => Err(ClientError::SubscribeRefused(*code)),
            _ => Ok(()),
        }
    }

    /// The next message; an error once the connection has ended and all messages are taken.
    pub async fn next_message(&mut self) -> Result<Message, ClientError> {
        match self.messages.recv().await {
            Some(message) => Ok(message),
            None => Err(self.shared.lock().ended.clone().unwrap_or(ClientError::Disconnected)),
        }
    }

    /// Says goodbye after everything queued has been sent; the server discards the will.
    pub async fn disconnect(mut self) -> Result<(), ClientError> {
        let now = self.shared.epoch.elapsed();
        self.shared.lock().session.disconnect(now);
        self.shared.to_send.notify_one();
        // A subscriber's messages must not keep the driver from ending.
        self.messages.close();
        let _ = timeout(ANSWER_TIME_MAX, &mut self.driver).await;
        match self.shared.lock().ended.take() {
            None | Some(ClientError::Disconnected) => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Resolves when the connection has ended, with why.
    pub async fn ended(&self) -> ClientError {
        match self.shared.wait_for(|_| None::<()>).await {
            Err(error) => error,
            Ok(()) => ClientError::Disconnected,
        }
    }
}

impl Drop for MqttClient {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl AckHandle {
    /// Resolves when the server has acknowledged the message (at once for QoS 0).
    pub async fn acked(self) -> Result<(), ClientError> {
        let Some(number) = self.number else { return Ok(()) };
        self.shared.wait_for(|inner| (inner.session.settled() > number).then_some(())).await?;
        match self.shared.lock().refused.remove(&number) {
            Some(first) => Err(ClientError::PublishRefused { count: 1, first }),
            None => Ok(()),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks again whenever something has happened; fails when the connection has ended without it.
    async fn wait_for<T>(&self, mut ready: impl FnMut(&mut Inner) -> Option<T>) -> Result<T, ClientError> {
        // Mostly it is ready at once, and then nothing has to be queued up for.
        if let Some(outcome) = self.look(&mut ready) {
            return outcome;
        }
        loop {
            let mut happened = pin!(self.happened.notified());
            happened.as_mut().enable();
            if let Some(outcome) = self.look(&mut ready) {
                return outcome;
            }
            happened.await;
        }
    }

    /// What came before the end still counts after it.
    fn look<T>(&self, ready: &mut impl FnMut(&mut Inner) -> Option<T>) -> Option<Result<T, ClientError>> {
        let mut inner = self.lock();
        let outcome = ready(&mut inner);
        match (outcome, &inner.ended) {
            (Some(outcome), _) => Some(Ok(outcome)),
            (None, Some(error)) => Some(Err(error.clone())),
            (None, None) => None,
        }
    }
}

impl Inner {
    fn settled(&mut self) {
        for (number, code) in self.session.take_refused() {
            self.refused.insert(number, code);
            let (count, _) = self.refused_unflushed.get_or_insert((0, code));
            *count += 1;
        }
        while self.refused.len() > REFUSALS_KEPT_MAX {
            self.refused.pop_first();
        }
        let Some(latencies) = &mut self.latencies else { return };
        let unsettled = (self.session.published() - self.session.settled()) as usize;
        let now = Instant::now();
        while latencies.sent.len() > unsettled {
            let Some(sent) = latencies.sent.pop_front() else { break };
            if latencies.done.len() < LATENCIES_KEPT_MAX {
                latencies.done.push(now.duration_since(sent));
            }
        }
    }
}

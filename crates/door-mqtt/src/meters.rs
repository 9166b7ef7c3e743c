//! The door's metrics, one handle each: a counter on the hot path is an atomic add, no look-up.

use metrics::{Counter, Gauge, counter, gauge};

/// Made when the door is bound: the process's recorder must be installed before.
pub struct Meters {
    pub connections: Gauge,
    pub connects_accepted: Counter,
    pub connects_refused: Counter,
    pub received: Counter,
    pub delivered: Counter,
    /// By a connection's own rate; tenants have theirs in `throttle.rs`.
    pub slowed: Counter,
    pub dropped_queue_full: Counter,
    pub dropped_not_authorized: Counter,
    pub dropped_too_large: Counter,
}

impl Meters {
    pub fn new() -> Self {
        const DROPPED: &str = "kilter_mqtt_publishes_dropped_total";
        const SLOWED: &str = "kilter_mqtt_slowed_total";
        metrics::describe_counter!(SLOWED, "How often a connection had to wait because messages came too fast.");
        metrics::describe_gauge!("kilter_mqtt_connections", "Open MQTT connections, after the TLS handshake.");
        metrics::describe_counter!("kilter_mqtt_connects_total", "Answers to CONNECT, by result.");
        metrics::describe_counter!("kilter_mqtt_publishes_received_total", "Messages that were taken in.");
        metrics::describe_counter!("kilter_mqtt_publishes_delivered_total", "Messages sent to subscribers.");
        metrics::describe_counter!(DROPPED, "Messages not sent to a subscriber, by reason.");
        metrics::describe_counter!("kilter_mqtt_refusals_total", "What was refused to devices, by reason.");
        Self {
            connections: gauge!("kilter_mqtt_connections"),
            connects_accepted: counter!("kilter_mqtt_connects_total", "result" => "accepted"),
            connects_refused: counter!("kilter_mqtt_connects_total", "result" => "refused"),
            received: counter!("kilter_mqtt_publishes_received_total"),
            delivered: counter!("kilter_mqtt_publishes_delivered_total"),
            slowed: counter!(SLOWED, "bound" => "connection_rate_max"),
            dropped_queue_full: counter!(DROPPED, "reason" => "queue_full"),
            dropped_not_authorized: counter!(DROPPED, "reason" => "not_authorized"),
            dropped_too_large: counter!(DROPPED, "reason" => "too_large"),
        }
    }
}

/// Counts an open connection for as long as it lives.
pub struct Open(Gauge);

impl Open {
    pub fn new(connections: &Gauge) -> Self {
        connections.increment(1.0);
        Self(connections.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

//! `/api/v1/live`: what happens, as it happens, as Server-Sent Events (HTML standard §9.2).

use crate::{
    App,
    api::{TenantQuery, blocking},
    error::ApiError,
    extract::InQuery,
};
use axum::{
    Extension,
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{StreamExt, future, stream};
use kilter_core::{TenantId, ports::query::LiveEvent};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// A comment this often tells a reader, and whatever lies between, that the connection lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a browser waits before it connects again.
const RECONNECT: Duration = Duration::from_secs(2);

/// The server's shutdown, so that open readers do not hold it up.
#[derive(Clone)]
pub(crate) struct Closing(pub CancellationToken);

pub(crate) async fn live(
    State(app): State<App>,
    closing: Option<Extension<Closing>>,
    InQuery(TenantQuery { tenant }): InQuery<TenantQuery>,
) -> Result<Response, ApiError> {
    let Ok(seat) = Arc::clone(&app.live_readers).try_acquire_owned() else {
        return Err(ApiError::busy(format!(
            "{} readers follow the live events already, which is the limit. Close a console that nobody looks at.",
            crate::LIVE_READERS_MAX
        )));
    };
    let events = blocking(&app, |door| Ok(door.state.results.live())).await?;
    let hello = Event::default().retry(RECONNECT).comment("live events follow");
    let told = events.filter_map(move |event| {
        let _held_while_reading = &seat;
        future::ready(if concerns(&event, tenant.as_ref()) { written(&event) } else { None })
    });
    let closing = async move {
        match closing {
            Some(Extension(Closing(shutdown))) => shutdown.cancelled_owned().await,
            None => future::pending().await,
        }
    };
    let stream = stream::once(future::ready(hello)).chain(told).map(Ok::<_, Infallible>).take_until(Box::pin(closing));
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive")).into_response())
}

fn concerns(event: &LiveEvent, tenant: Option<&TenantId>) -> bool {
    let Some(wanted) = tenant else { return true };
    match event {
        LiveEvent::Reading { tenant, .. } => tenant == wanted,
        LiveEvent::Anomaly { episode } => episode.tenant == *wanted,
        LiveEvent::Alert { alert } => alert.episode.tenant == *wanted,
        LiveEvent::Missed { .. } => true,
    }
}

fn written(event: &LiveEvent) -> Option<Event> {
    match serde_json::to_string(event) {
        Ok(text) => Some(Event::default().data(text)),
        Err(error) => {
            tracing::error!(%error, "a live event could not be written and was left out");
            None
        }
    }
}

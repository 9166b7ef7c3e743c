//! `/api/v1`: each handler checks what was asked, calls one port in a blocking thread, answers in core's types.

use crate::{
    App, ConsoleState, Door, ROWS_DEFAULT,
    error::ApiError,
    extract::{InBody, InPath, InQuery, Nothing, rows},
    views::{
        CertificateRequest, EventCounts, LedgerEntry, LedgerTotals, Overview, RotationRequest, StatusRequest,
        TenantOverview, ThingRequest,
    },
};
use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use kilter_core::{
    AlertEvent, CertificateId, TenantId, ThingName, Timestamp,
    ports::{
        control::{ControlError, ControlErrorKind, OnboardRequest},
        fleet::{FleetErrorKind, PolicyQuestion},
        query::Filter,
    },
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Events of each kind and tenant that the overview looks at: it is asked for every few seconds.
const OVERVIEW_EVENTS_MAX: usize = 1_000;
const WEEK_SECONDS: i64 = 7 * 24 * 3600;

type Answer = Result<Response, ApiError>;

/// Runs `work` where blocking is allowed, at most [`crate::PORT_CALLS_MAX`] at a time. The number that waits is
/// bounded by the server's connections.
pub(crate) async fn blocking<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Door) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let permit = Arc::clone(&app.port_calls).acquire_owned().await;
    let permit = permit.map_err(|_| ApiError::busy("The server is shutting down."))?;
    let app = Arc::clone(app);
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work(&app)
    });
    done.await.unwrap_or_else(|panic| {
        tracing::error!(%panic, "a console request panicked");
        Err(ApiError::internal("The request failed inside Kilter; the log says more. Please report it."))
    })
}

/// Calls a port and answers its result as JSON. Turning 10,000 rows into text takes a while, so it happens there too.
async fn json<T: Serialize>(
    app: &App,
    status: StatusCode,
    work: impl FnOnce(&ConsoleState) -> Result<T, ControlError> + Send + 'static,
) -> Answer {
    let text = blocking(app, |door| {
        let value = work(&door.state)?;
        serde_json::to_vec(&value).map_err(|e| ApiError::internal(format!("The answer could not be written: {e}.")))
    })
    .await?;
    Ok((status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response())
}

pub(crate) async fn overview(State(app): State<App>, InQuery(Nothing {}): InQuery<Nothing>) -> Answer {
    json(&app, StatusCode::OK, |state| {
        let ledger = state.results.ledger(None)?;
        let week_ago = state.clock.now().plus_seconds(-WEEK_SECONDS);
        let mut tenants = Vec::new();
        for view in state.inventory.tenants()? {
            tenants.push(TenantOverview {
                things: view.things.len(),
                open_anomalies: open_anomalies(state, &view.tenant)?,
                alerts_last_week: alerts_since(state, &view.tenant, week_ago)?,
                ledger: LedgerTotals::of(ledger.iter().filter(|line| line.tenant == view.tenant)),
                tenant: view.tenant,
            });
        }
        let ready = (state.ready)().iter().all(|item| item.ready);
        Ok(Overview { version: state.version.to_owned(), ready, tenants, ledger: LedgerTotals::of(ledger.iter()) })
    })
    .await
}

fn newest(tenant: &TenantId) -> Filter {
    Filter { tenant: Some(tenant.clone()), thing: None, limit: OVERVIEW_EVENTS_MAX }
}

fn open_anomalies(state: &ConsoleState, tenant: &TenantId) -> Result<EventCounts, ControlError> {
    let seen = state.results.anomalies(&newest(tenant))?;
    let count = seen.iter().filter(|episode| episode.end.is_none()).count() as u64;
    Ok(EventCounts { count, at_least: seen.len() >= OVERVIEW_EVENTS_MAX })
}

fn alerts_since(state: &ConsoleState, tenant: &TenantId, since: Timestamp) -> Result<EventCounts, ControlError> {
    let seen = state.results.alerts(&newest(tenant))?;
    let opened = seen.iter().filter(|alert| alert.event == AlertEvent::Opened && alert.raised >= since);
    let all_recent = seen.last().is_some_and(|oldest| oldest.raised >= since);
    Ok(EventCounts { count: opened.count() as u64, at_least: all_recent && seen.len() >= OVERVIEW_EVENTS_MAX })
}

pub(crate) async fn tenants(State(app): State<App>, InQuery(Nothing {}): InQuery<Nothing>) -> Answer {
    json(&app, StatusCode::OK, |state| state.inventory.tenants()).await
}

/// 200 whether something was made or all was there: `created` in the answer tells.
pub(crate) async fn onboard(
    State(app): State<App>,
    InQuery(Nothing {}): InQuery<Nothing>,
    InBody(request): InBody<OnboardRequest>,
) -> Answer {
    json(&app, StatusCode::OK, move |state| state.control.onboard(request)).await
}

pub(crate) async fn tenant(
    State(app): State<App>,
    InPath(tenant): InPath<TenantId>,
    InQuery(Nothing {}): InQuery<Nothing>,
) -> Answer {
    json(&app, StatusCode::OK, move |state| {
        let found = state.inventory.tenants()?.into_iter().find(|view| view.tenant == tenant);
        found.ok_or_else(|| {
            let message = format!("There is no tenant {tenant}. `kilter tenant list` shows those that there are.");
            ControlError::new(ControlErrorKind::NotFound, message)
        })
    })
    .await
}

pub(crate) async fn offboard(
    State(app): State<App>,
    InPath(tenant): InPath<TenantId>,
    InQuery(Nothing {}): InQuery<Nothing>,
) -> Answer {
    json(&app, StatusCode::OK, move |state| state.control.offboard(&tenant)).await
}

pub(crate) async fn things(
    State(app): State<App>,
    InPath(tenant): InPath<TenantId>,
    InQuery(Nothing {}): InQuery<Nothing>,
) -> Answer {
    json(&app, StatusCode::OK, move |state| state.inventory.things(Some(&tenant))).await
}

/// Whoever's they are.
pub(crate) async fn all_things(State(app): State<App>, InQuery(Nothing {}): InQuery<Nothing>) -> Answer {
    json(&app, StatusCode::OK, |state| state.inventory.things(None)).await
}

pub(crate) async fn create_thing(
    State(app): State<App>,
    InPath(tenant): InPath<TenantId>,
    InQuery(Nothing {}): InQuery<Nothing>,
    InBody(request): InBody<ThingRequest>,
) -> Answer {
    json(&app, StatusCode::CREATED, move |state| state.control.create_thing(&tenant, &request.thing)).await
}

pub(crate) async fn issue_certificate(
    State(app): State<App>,
    InPath((tenant, thing)): InPath<(TenantId, ThingName)>,
    InQuery(Nothing {}): InQuery<Nothing>,
    InBody(CertificateRequest { valid_hours }): InBody<CertificateRequest>,
) -> Answer {
    json(&app, StatusCode::CREATED, move |state| state.control.issue_certificate(&tenant, &thing, valid_hours)).await
}

pub(crate) async fn rotate_certificate(
    State(app): State<App>,
    InPath((tenant, thing)): InPath<(TenantId, ThingName)>,
    InQuery(Nothing {}): InQuery<Nothing>,
    InBody(RotationRequest { within_seconds }): InBody<RotationRequest>,
) -> Answer {
    json(&app, StatusCode::CREATED, move |state| state.control.rotate_certificate(&tenant, &thing, within_seconds))
        .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateQuery {
    tenant: Option<TenantId>,
    thing: Option<ThingName>,
}

pub(crate) async fn certificates(
    State(app): State<App>,
    InQuery(CertificateQuery { tenant, thing }): InQuery<CertificateQuery>,
) -> Answer {
    json(&app, StatusCode::OK, move |state| state.inventory.certificates(tenant.as_ref(), thing.as_ref())).await
}

pub(crate) async fn set_certificate_status(
    State(app): State<App>,
    InPath(certificate): InPath<CertificateId>,
    InQuery(Nothing {}): InQuery<Nothing>,
    InBody(StatusRequest { status }): InBody<StatusRequest>,
) -> Answer {
    json(&app, StatusCode::OK, move |state| state.control.set_certificate_status(&certificate, status)).await
}

/// Changes nothing; a question is too long for an address.
pub(crate) async fn simulate(
    State(app): State<App>,
    InQuery(Nothing {}): InQuery<Nothing>,
    InBody(question): InBody<PolicyQuestion>,
) -> Answer {
    json(&app, StatusCode::OK, move |state| {
        state.fleet.simulate(&question).map_err(|error| {
            let kind = match error.kind {
                FleetErrorKind::NotFound => ControlErrorKind::NotFound,
                FleetErrorKind::Internal => ControlErrorKind::Internal,
                _ => ControlErrorKind::Invalid,
            };
            ControlError::new(kind, error.message)
        })
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadingsQuery {
    before: Option<Timestamp>,
    limit: Option<usize>,
}

pub(crate) async fn readings(
    State(app): State<App>,
    InPath((tenant, thing)): InPath<(TenantId, ThingName)>,
    InQuery(ReadingsQuery { before, limit }): InQuery<ReadingsQuery>,
) -> Answer {
    let limit = rows(limit, ROWS_DEFAULT)?;
    json(&app, StatusCode::OK, move |state| state.results.readings(&tenant, &thing, before, limit)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitQuery {
    limit: Option<usize>,
}

pub(crate) async fn records(
    State(app): State<App>,
    InPath(tenant): InPath<TenantId>,
    InQuery(LimitQuery { limit }): InQuery<LimitQuery>,
) -> Answer {
    let limit = rows(limit, ROWS_DEFAULT)?;
    json(&app, StatusCode::OK, move |state| state.inventory.stream_records(&tenant, limit)).await
}

pub(crate) async fn objects(
    State(app): State<App>,
    InPath(tenant): InPath<TenantId>,
    InQuery(Nothing {}): InQuery<Nothing>,
) -> Answer {
    json(&app, StatusCode::OK, move |state| state.inventory.lake_objects(&tenant)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventQuery {
    tenant: Option<TenantId>,
    thing: Option<ThingName>,
    limit: Option<usize>,
}

impl TryFrom<EventQuery> for Filter {
    type Error = ApiError;
    fn try_from(query: EventQuery) -> Result<Self, ApiError> {
        Ok(Self { tenant: query.tenant, thing: query.thing, limit: rows(query.limit, ROWS_DEFAULT)? })
    }
}

pub(crate) async fn anomalies(State(app): State<App>, InQuery(query): InQuery<EventQuery>) -> Answer {
    let filter = Filter::try_from(query)?;
    json(&app, StatusCode::OK, move |state| state.results.anomalies(&filter)).await
}

pub(crate) async fn alerts(State(app): State<App>, InQuery(query): InQuery<EventQuery>) -> Answer {
    let filter = Filter::try_from(query)?;
    json(&app, StatusCode::OK, move |state| state.results.alerts(&filter)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantQuery {
    pub(crate) tenant: Option<TenantId>,
}

pub(crate) async fn ledger(State(app): State<App>, InQuery(TenantQuery { tenant }): InQuery<TenantQuery>) -> Answer {
    json(&app, StatusCode::OK, move |state| {
        let lines = state.results.ledger(tenant.as_ref())?;
        Ok(lines.into_iter().map(LedgerEntry::from).collect::<Vec<_>>())
    })
    .await
}

/// Which devices were refused lately, and why.
pub(crate) async fn refusals(State(app): State<App>, InQuery(Nothing {}): InQuery<Nothing>) -> Answer {
    json(&app, StatusCode::OK, |state| Ok((state.refusals)())).await
}

/// What `/readyz` lists, with status 200 whatever it says.
pub(crate) async fn parts(State(app): State<App>, InQuery(Nothing {}): InQuery<Nothing>) -> Answer {
    json(&app, StatusCode::OK, |state| Ok((state.ready)())).await
}

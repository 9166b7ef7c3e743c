//! Every address but the console's files, in one table; `openapi.json` describes exactly these.

use crate::{App, api, live, ops};
use axum::{
    handler::Handler,
    routing::{self, MethodRouter},
};

pub(crate) struct Route {
    #[cfg_attr(not(test), expect(dead_code, reason = "the test that compares openapi.json reads it"))]
    pub method: &'static str,
    pub path: &'static str,
    pub handler: MethodRouter<App>,
}

fn get<H: Handler<T, App>, T: 'static>(path: &'static str, handler: H) -> Route {
    Route { method: "get", path, handler: routing::get(handler) }
}
fn post<H: Handler<T, App>, T: 'static>(path: &'static str, handler: H) -> Route {
    Route { method: "post", path, handler: routing::post(handler) }
}
fn put<H: Handler<T, App>, T: 'static>(path: &'static str, handler: H) -> Route {
    Route { method: "put", path, handler: routing::put(handler) }
}
fn delete<H: Handler<T, App>, T: 'static>(path: &'static str, handler: H) -> Route {
    Route { method: "delete", path, handler: routing::delete(handler) }
}

pub(crate) fn all() -> Vec<Route> {
    vec![
        get("/api/v1/overview", api::overview),
        get("/api/v1/tenants", api::tenants),
        post("/api/v1/tenants", api::onboard),
        get("/api/v1/tenants/{tenant}", api::tenant),
        delete("/api/v1/tenants/{tenant}", api::offboard),
        get("/api/v1/things", api::all_things),
        get("/api/v1/tenants/{tenant}/things", api::things),
        post("/api/v1/tenants/{tenant}/things", api::create_thing),
        post("/api/v1/tenants/{tenant}/things/{thing}/certificates", api::issue_certificate),
        post("/api/v1/tenants/{tenant}/things/{thing}/rotation", api::rotate_certificate),
        get("/api/v1/tenants/{tenant}/things/{thing}/readings", api::readings),
        get("/api/v1/tenants/{tenant}/records", api::records),
        get("/api/v1/tenants/{tenant}/objects", api::objects),
        get("/api/v1/certificates", api::certificates),
        put("/api/v1/certificates/{certificate}", api::set_certificate_status),
        post("/api/v1/policies/simulate", api::simulate),
        get("/api/v1/anomalies", api::anomalies),
        get("/api/v1/alerts", api::alerts),
        get("/api/v1/ledger", api::ledger),
        get("/api/v1/refusals", api::refusals),
        get("/api/v1/parts", api::parts),
        get("/api/v1/live", live::live),
        get("/openapi.json", ops::openapi),
        get("/metrics", ops::metrics),
        get("/healthz", ops::healthz),
        get("/readyz", ops::readyz),
        get("/AmazonRootCA1.pem", ops::ca),
    ]
}

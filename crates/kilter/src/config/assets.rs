//! What operators know of their machines and detectors cannot: deviations that do not matter, maintenance, how to tell
//! that a machine is off, for how long it was commissioned.

use kilter_core::{TenantId, ThingName};
use kilter_detect::{Maintenance, OffState, ScorerConfig, Tolerance, vibration::Bearing};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Holds for all things of the tenant, for those of a thing type, or for a single one.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetConfig {
    tenant: TenantId,
    thing: Option<ThingName>,
    thing_type: Option<String>,
    commissioning_readings: Option<u32>,
    #[serde(default)]
    tolerance: BTreeMap<Box<str>, Tolerance>,
    #[serde(default)]
    maintenance: Vec<Maintenance>,
    off: Option<OffState>,
    /// By the waveform in which they are heard.
    #[serde(default)]
    bearing: BTreeMap<Box<str>, Bearing>,
}

/// Whose configuration is asked for.
pub struct Whose<'a> {
    pub tenant: &'a TenantId,
    pub thing: &'a ThingName,
    pub thing_type: Option<&'a str>,
}

impl AssetConfig {
    pub fn holds(&self, whose: &Whose<'_>) -> bool {
        self.tenant == *whose.tenant
            && self.thing.as_ref().is_none_or(|thing| thing == whose.thing)
            && self.thing_type.as_deref().is_none_or(|thing_type| Some(thing_type) == whose.thing_type)
    }

    /// Later entries win; maintenance adds up.
    pub fn apply(&self, scorer: &mut ScorerConfig) {
        scorer.commissioning_readings = self.commissioning_readings.or(scorer.commissioning_readings);
        scorer.tolerances.extend(self.tolerance.iter().map(|(signal, tolerance)| (signal.clone(), *tolerance)));
        scorer.bearings.extend(self.bearing.iter().map(|(waveform, bearing)| (waveform.clone(), bearing.clone())));
        scorer.maintenance.extend(&self.maintenance);
        scorer.off = self.off.clone().or_else(|| scorer.off.take());
    }

    pub fn check(&self) -> Result<(), String> {
        let tenant = &self.tenant;
        if let Some(window) = self.maintenance.iter().find(|window| window.until <= window.from) {
            return Err(format!(
                "a maintenance of {tenant} ends at {} before it begins at {}",
                window.until, window.from
            ));
        }
        let usable = |x: f64| x.is_finite() && x >= 0.0;
        let mut tolerances = self.tolerance.iter();
        if let Some((signal, _)) = tolerances.find(|(_, t)| !usable(t.difference) || !usable(t.percent)) {
            return Err(format!("the tolerance of {signal} ({tenant}) must be numbers of 0 or more"));
        }
        if let Some((waveform, why)) = self.bearing.iter().find_map(|(name, b)| Some((name, b.check().err()?))) {
            return Err(format!("the bearing of {waveform} ({tenant}) {why}"));
        }
        match &self.off {
            Some(off) if !off.below.is_finite() || !usable(off.start_up_seconds) => Err(format!(
                "off by {} ({tenant}) needs a number below which, and 0 or more start_up_seconds",
                off.signal
            )),
            _ => Ok(()),
        }
    }
}

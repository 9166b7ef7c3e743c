//! The values of a property over time. Measurements are kept; transforms and metrics are computed from them when they are
//! asked for, so a value that comes late changes what follows from it.

use super::{
    fault::{internal, invalid},
    model::{Asset, DataType, Kind, Model, Property},
    store::{Kept, Point, Quality, Store, Variant, partition},
};
use crate::AwsError;
use kilter_core::{NANOS_PER_SECOND, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Values that one answer may be computed from: bounds its memory and its time.
const INPUTS_MAX: usize = 100_000;
/// Expressions within each other, over hierarchies too.
const DEPTH_MAX: usize = 24;

/// `from <= time <= to`.
pub type Span = (Timestamp, Timestamp);

fn after(time: Timestamp) -> Timestamp {
    Timestamp::from_nanos(time.as_nanos().saturating_add(1))
}

fn before(time: Timestamp) -> Timestamp {
    Timestamp::from_nanos(time.as_nanos().saturating_sub(1))
}

/// What a variable stands for: one property, or one of each child.
type Sources = Vec<(Asset, Model, Property)>;

pub struct Reader<'a> {
    pub store: &'a Store,
}

impl Reader<'_> {
    /// In order of time.
    pub fn series(
        &self,
        asset: &Asset,
        model: &Model,
        property: &Property,
        span: Span,
    ) -> Result<Vec<Point>, AwsError> {
        self.series_at(asset, model, property, span, 0)
    }

    fn series_at(
        &self,
        asset: &Asset,
        model: &Model,
        property: &Property,
        span: Span,
        depth: usize,
    ) -> Result<Vec<Point>, AwsError> {
        if depth > DEPTH_MAX {
            return Err(invalid("the expression depends on itself"));
        }
        match &property.kind {
            Kind::Measurement | Kind::Attribute(_) => self.kept(asset, property, span),
            Kind::Transform(_) => self.transform(asset, model, property, span, depth),
            Kind::Metric(..) => self.metric(asset, model, property, span, depth),
        }
    }

    fn kept(&self, asset: &Asset, property: &Property, (from, to): Span) -> Result<Vec<Point>, AwsError> {
        let place = partition(&asset.id, &property.id);
        let points = self.store.values(&place, (from, Some(after(to))), false, INPUTS_MAX + 1)?;
        if points.len() > INPUTS_MAX {
            return Err(invalid(format!(
                "more than {INPUTS_MAX} values of {} lie in that time; ask for less of it",
                property.name
            )));
        }
        let default = self.default(asset, property).filter(|point| (from..=to).contains(&point.time));
        let mut all: Vec<Point> = default.into_iter().collect();
        all.extend(points);
        all.sort_by_key(|point| point.time);
        Ok(all)
    }

    /// An attribute has its default from the asset's beginning on.
    fn default(&self, asset: &Asset, property: &Property) -> Option<Point> {
        let Kind::Attribute(Some(text)) = &property.kind else { return None };
        let variant = match property.data_type {
            DataType::String => Variant::Text(text.clone()),
            DataType::Integer => Variant::Integer(text.parse().ok()?),
            DataType::Double => Variant::Double(text.parse().ok()?),
            DataType::Boolean => Variant::Boolean(text.parse().ok()?),
        };
        Some(Point { time: asset.created, value: Kept { variant, quality: Quality::Good } })
    }

    /// The last value at or before a time.
    pub fn latest(
        &self,
        asset: &Asset,
        model: &Model,
        property: &Property,
        until: Timestamp,
    ) -> Result<Option<Point>, AwsError> {
        self.latest_at(asset, model, property, until, 0)
    }

    fn latest_at(
        &self,
        asset: &Asset,
        model: &Model,
        property: &Property,
        until: Timestamp,
        depth: usize,
    ) -> Result<Option<Point>, AwsError> {
        if depth > DEPTH_MAX {
            return Err(invalid("the expression depends on itself"));
        }
        let Kind::Metric(_, seconds, offset) = &property.kind else {
            if matches!(property.kind, Kind::Measurement | Kind::Attribute(_)) {
                let place = partition(&asset.id, &property.id);
                let kept = self.store.values(&place, (Timestamp::MIN, Some(after(until))), true, 1)?.pop();
                let default = self.default(asset, property).filter(|point| point.time <= until);
                return Ok(kept.into_iter().chain(default).max_by_key(|point| point.time));
            }
            let Some(time) = self.last_input(asset, model, property, until, depth)? else { return Ok(None) };
            return Ok(self.series_at(asset, model, property, (time, time), depth)?.pop());
        };
        // The last window that has ended and in which there was something.
        let ended = window_end(before(until), *seconds, *offset);
        let ended = if ended <= until { ended } else { ended.plus_seconds(-seconds) };
        let Some(time) = self.last_input(asset, model, property, before(ended), depth)? else { return Ok(None) };
        let end = window_end(time, *seconds, *offset);
        Ok(self.series_at(asset, model, property, (end, end), depth)?.pop())
    }

    fn last_input(
        &self,
        asset: &Asset,
        model: &Model,
        property: &Property,
        until: Timestamp,
        depth: usize,
    ) -> Result<Option<Timestamp>, AwsError> {
        let mut last = None;
        for (_, sources) in self.sources(asset, model, property)? {
            for (asset, model, property) in &sources {
                let point = self.latest_at(asset, model, property, until, depth + 1)?;
                last = last.max(point.map(|point| point.time));
            }
        }
        Ok(last)
    }

    /// What each variable of an expression stands for.
    fn sources(&self, asset: &Asset, model: &Model, property: &Property) -> Result<Vec<(String, Sources)>, AwsError> {
        let mut all = Vec::new();
        for variable in property.variables() {
            let mut sources = Vec::new();
            match &variable.hierarchy {
                None => {
                    let of = model.property(&variable.property);
                    sources.extend(of.map(|of| (asset.clone(), model.clone(), of.clone())));
                }
                Some(hierarchy) => {
                    let place = Some((asset.id.clone(), hierarchy.clone()));
                    for child in self.store.all::<Asset>(super::store::ASSETS)? {
                        if child.parent != place {
                            continue;
                        }
                        let below = self.store.model(&child.model)?;
                        let named = |of: &&Property| of.id == variable.property || of.name == variable.property;
                        let of = below.properties.iter().find(named).cloned();
                        sources.extend(of.map(|of| (child, below, of)));
                    }
                }
            }
            all.push((variable.name.clone(), sources));
        }
        Ok(all)
    }

    /// A value at every time at which an input has one, the others as they were then.
    fn transform(
        &self,
        asset: &Asset,
        model: &Model,
        property: &Property,
        span: Span,
        depth: usize,
    ) -> Result<Vec<Point>, AwsError> {
        let Kind::Transform(expression) = &property.kind else { return Ok(Vec::new()) };
        let formula = expression.formula(false).map_err(internal)?;
        let mut inputs: BTreeMap<String, BTreeMap<Timestamp, Kept>> = BTreeMap::new();
        for (name, sources) in self.sources(asset, model, property)? {
            let mut points = BTreeMap::new();
            for (asset, model, property) in &sources {
                let earlier = self.latest_at(asset, model, property, before(span.0), depth + 1)?;
                let within = self.series_at(asset, model, property, span, depth + 1)?;
                points.extend(earlier.into_iter().chain(within).map(|point| (point.time, point.value)));
            }
            inputs.insert(name, points);
        }
        let times: BTreeSet<Timestamp> =
            inputs.values().flat_map(BTreeMap::keys).copied().filter(|time| *time >= span.0).collect();
        let mut points = Vec::new();
        for time in times {
            let at = |name: &str| inputs.get(name).and_then(|points| points.range(..=time).next_back());
            let number = |name: &str| at(name).and_then(|(_, kept)| kept.variant.number()).into_iter().collect();
            let quality = worst(inputs.keys().filter_map(|name| at(name)).map(|(_, kept)| kept.quality));
            if let Some(value) = formula.value(&number) {
                points.push(Point { time, value: Kept { variant: typed(property, value), quality } });
            }
        }
        Ok(points)
    }

    /// A value at the end of every window that has ended and in which there was something.
    fn metric(
        &self,
        asset: &Asset,
        model: &Model,
        property: &Property,
        (from, to): Span,
        depth: usize,
    ) -> Result<Vec<Point>, AwsError> {
        let Kind::Metric(expression, seconds, offset) = &property.kind else { return Ok(Vec::new()) };
        let formula = expression.formula(true).map_err(internal)?;
        let to = to.min(self.store.clock.now());
        let first = from.plus_seconds(-seconds);
        let mut windows: BTreeMap<Timestamp, BTreeMap<String, Vec<Point>>> = BTreeMap::new();
        for (name, sources) in self.sources(asset, model, property)? {
            for (asset, model, property) in &sources {
                for point in self.series_at(asset, model, property, (first, before(to)), depth + 1)? {
                    let end = window_end(point.time, *seconds, *offset);
                    if (from..=to).contains(&end) {
                        windows.entry(end).or_default().entry(name.clone()).or_default().push(point);
                    }
                }
            }
        }
        let mut points = Vec::new();
        for (time, mut inputs) in windows {
            inputs.values_mut().for_each(|points| points.sort_by_key(|point| point.time));
            let numbers = |name: &str| -> Vec<f64> {
                inputs.get(name).into_iter().flatten().filter_map(|point| point.value.variant.number()).collect()
            };
            let quality = worst(inputs.values().flatten().map(|point| point.value.quality));
            if let Some(value) = formula.value(&numbers) {
                points.push(Point { time, value: Kept { variant: typed(property, value), quality } });
            }
        }
        Ok(points)
    }
}

/// The end of the window that holds a time; windows begin at `offset` of each interval, counted from the epoch.
pub fn window_end(time: Timestamp, seconds: i64, offset: i64) -> Timestamp {
    let (interval, offset) = (seconds.saturating_mul(NANOS_PER_SECOND), offset.saturating_mul(NANOS_PER_SECOND));
    let within = (time.as_nanos().saturating_sub(offset)).rem_euclid(interval);
    Timestamp::from_nanos(time.as_nanos().saturating_sub(within).saturating_add(interval))
}

fn typed(property: &Property, value: f64) -> Variant {
    match property.data_type {
        DataType::Integer => Variant::Integer(value.round() as i64),
        _ => Variant::Double(value),
    }
}

fn worst(all: impl Iterator<Item = Quality>) -> Quality {
    let rank = |quality: &Quality| match quality {
        Quality::Good => 0,
        Quality::Uncertain => 1,
        Quality::Bad => 2,
    };
    all.max_by_key(rank).unwrap_or(Quality::Good)
}

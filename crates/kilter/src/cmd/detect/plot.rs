//! The picture of what was found: signals with what was expected of them, the score with its threshold, episodes.

use anyhow::{Context, anyhow};
use chrono::DateTime;
use kilter_core::{Episode, Reading, ScoredReading, Timestamp};
use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
};
use std::collections::BTreeMap;

/// Signals that are drawn, those first that were blamed most.
const SIGNALS_MAX: usize = 4;
const WIDTH: u32 = 1_000;
const PANEL_HEIGHT: u32 = 170;
/// Columns that a course is drawn in, each from its least to its largest value: no file makes a larger picture.
const COLUMNS: usize = 800;
const SIGNAL: RGBColor = RGBColor(31, 78, 121);
const EXPECTED: RGBColor = RGBColor(90, 160, 90);
const EPISODE: RGBColor = RGBColor(200, 40, 40);

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Points in time order: seconds and value.
type Course = Vec<(f64, f64)>;

/// A signal, and what was expected before each of its values was known.
#[derive(Debug, Default)]
struct Signal {
    values: Course,
    low: Course,
    high: Course,
}

#[derive(Debug, Default)]
pub struct Plot {
    signals: BTreeMap<Box<str>, Signal>,
    scores: Course,
    thresholds: Course,
}

impl Plot {
    pub fn expect(&mut self, reading: &Reading, expected: &[(&str, [f64; 2])]) {
        let time = seconds(reading.event_time);
        for (name, value) in &reading.signals {
            let signal = self.signals.entry(name.clone()).or_default();
            signal.values.push((time, *value));
            if let Some((_, [low, high])) = expected.iter().find(|(other, _)| *other == &**name) {
                signal.low.push((time, *low));
                signal.high.push((time, *high));
            }
        }
    }

    pub fn score(&mut self, row: &ScoredReading) {
        let time = seconds(row.event_time);
        self.scores.extend(row.score.map(|score| (time, score.value())));
        self.thresholds.extend(row.threshold.map(|threshold| (time, threshold.value())));
    }

    /// As SVG.
    pub fn draw(&self, episodes: &[Episode]) -> anyhow::Result<String> {
        let mut svg = String::new();
        self.draw_into(&mut svg, episodes).context("the picture could not be drawn")?;
        Ok(svg)
    }

    fn draw_into(&self, svg: &mut String, episodes: &[Episode]) -> anyhow::Result<()> {
        let times = self.signals.values().flat_map(|signal| &signal.values).map(|(time, _)| *time);
        let (from, to) = span(times).ok_or_else(|| anyhow!("the recording has no reading"))?;
        let shades: Vec<(f64, f64)> = episodes
            .iter()
            .map(|episode| (seconds(episode.start), episode.end.map_or(to, seconds)))
            // What lasts no longer than a line is wide is still to be seen.
            .map(|(start, end)| (start, end.max(start + (to - from) / WIDTH as f64)))
            .collect();
        let names = self.most_blamed(episodes);
        let panels = names.len() + 1;
        let root = SVGBackend::with_string(svg, (WIDTH, PANEL_HEIGHT * panels as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        let areas = root.split_evenly((panels, 1));
        for (name, area) in names.iter().zip(&areas) {
            let signal = &self.signals[*name];
            let mut chart = panel(area, name, (from, to), reach(&signal.values), &shades)?;
            let band = thinned(&signal.low).into_iter().chain(thinned(&signal.high).into_iter().rev());
            chart.draw_series(std::iter::once(Polygon::new(band.collect::<Course>(), EXPECTED.mix(0.25).filled())))?;
            chart.draw_series(LineSeries::new(thinned(&signal.values), SIGNAL))?;
        }
        let all = self.scores.iter().chain(&self.thresholds).copied().collect::<Course>();
        let mut chart =
            panel(&areas[panels - 1], "score, and the threshold of the budget", (from, to), reach(&all), &shades)?;
        chart.draw_series(LineSeries::new(thinned(&self.scores), SIGNAL))?;
        chart.draw_series(LineSeries::new(thinned(&self.thresholds), EPISODE))?;
        drop(chart);
        root.present()?;
        Ok(())
    }

    fn most_blamed(&self, episodes: &[Episode]) -> Vec<&str> {
        let blamed = |name: &str| -> f64 {
            let causes = episodes.iter().flat_map(|episode| &episode.causes);
            causes.filter(|cause| *cause.signal == *name).map(|cause| cause.share).sum()
        };
        let mut names: Vec<&str> = self.signals.keys().map(|name| &**name).collect();
        names.sort_by(|a, b| blamed(b).total_cmp(&blamed(a)));
        names.truncate(SIGNALS_MAX);
        names
    }
}

/// An empty panel with axes and the episodes' shades.
fn panel<'a, 'b>(
    area: &'a DrawingArea<SVGBackend<'b>, Shift>,
    title: &str,
    (from, to): (f64, f64),
    (low, high): (f64, f64),
    shades: &[(f64, f64)],
) -> anyhow::Result<Chart<'a, 'b>> {
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .caption(title, ("sans-serif", 14))
        .x_label_area_size(22)
        .y_label_area_size(60)
        .build_cartesian_2d(from..to, low..high)?;
    let days = (to - from) / 86_400.0;
    let pattern = if days > 2.0 { "%Y-%m-%d" } else { "%m-%d %H:%M:%S" };
    chart
        .configure_mesh()
        .disable_mesh()
        .x_labels(7)
        .y_labels(5)
        .x_label_formatter(&|x| {
            DateTime::from_timestamp(*x as i64, 0).map_or_else(String::new, |t| t.format(pattern).to_string())
        })
        .draw()?;
    let shade = |&(start, end): &(f64, f64)| Rectangle::new([(start, low), (end, high)], EPISODE.mix(0.18).filled());
    chart.draw_series(shades.iter().map(shade))?;
    Ok(chart)
}

fn seconds(time: Timestamp) -> f64 {
    time.as_nanos() as f64 / 1e9
}

fn span(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let wider = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), wider);
    (low <= high).then_some(if low < high { (low, high) } else { (low - 1.0, high + 1.0) })
}

/// The range of a course with some air.
fn reach(course: &Course) -> (f64, f64) {
    let (low, high) = span(course.iter().map(|(_, value)| *value)).unwrap_or((0.0, 1.0));
    let air = (high - low) * 0.05;
    (low - air, high + air)
}

/// The course by columns: the least and the largest value of each, in the order in which they came.
fn thinned(course: &Course) -> Course {
    course
        .chunks(course.len().div_ceil(COLUMNS).max(1))
        .flat_map(|column| {
            let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let (low, high) = (column.iter().min_by(by_value), column.iter().max_by(by_value));
            let mut ends: Course = low.into_iter().chain(high).copied().collect();
            ends.sort_by(|a, b| a.0.total_cmp(&b.0));
            ends.dedup();
            ends
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_course_keeps_its_spikes_and_becomes_short() {
        let course: Course = (0..100_000).map(|i| (f64::from(i), if i == 77_777 { 9.0 } else { 0.0 })).collect();
        let thinned = thinned(&course);
        assert!(thinned.len() <= 2 * COLUMNS && thinned.contains(&(77_777.0, 9.0)));
        assert!(thinned.is_sorted_by_key(|point| point.0));
    }

    #[test]
    fn nothing_to_draw_is_said() {
        let error = format!("{:#}", Plot::default().draw(&[]).unwrap_err());
        assert!(error.contains("no reading"), "{error}");
    }
}

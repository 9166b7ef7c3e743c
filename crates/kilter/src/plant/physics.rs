//! Hydraulics and heat of six centrifugal pumps in parallel, by the textbook: affinity laws, a quadratic
//! head curve, a parabolic efficiency, quadratic losses, a first-order thermal lag (Gülich, "Centrifugal Pumps").
//!
//! Heads are metres of water, flows m³/h, powers kW; speed is a fraction of the rated one.

use super::{DAY_SECONDS, THINGS, random::Random};

const WATER_KG_PER_M3: f64 = 1000.0;
const GRAVITY_M_PER_S2: f64 = 9.81;
/// Of one metre of water, in bar.
pub(super) const BAR_PER_METRE: f64 = WATER_KG_PER_M3 * GRAVITY_M_PER_S2 / 1e5;
/// kW per (m³/h · m): what lifting water costs at an efficiency of 1.
const KW_PER_FLOW_HEAD: f64 = WATER_KG_PER_M3 * GRAVITY_M_PER_S2 / 3600.0 / 1000.0;

pub(super) const RATED_RPM: f64 = 1480.0;
/// Flow at the best efficiency point at rated speed.
const BEST_FLOW: f64 = 220.0;
const SHUTOFF_HEAD: f64 = 62.0;
const RATED_HEAD: f64 = 50.0;
const BEST_EFFICIENCY: f64 = 0.80;
const RATED_SHAFT_KW: f64 = KW_PER_FLOW_HEAD * BEST_FLOW * RATED_HEAD / BEST_EFFICIENCY;
const MOTOR_EFFICIENCY: f64 = 0.94;
const MAINS_VOLT: f64 = 400.0;
/// Friction of bearings and seals at rated speed.
const IDLE_KW: f64 = 1.2;

const HEADER_SETPOINT: f64 = 50.0;
/// Consumers' elevation above the header: the part of their head that does not depend on flow.
const CONSUMER_STATIC: f64 = 30.0;
const DEMAND_MEAN: f64 = 1240.0;
const WELL_LEVEL: f64 = 5.0;
const STRAINER_LOSS: f64 = 2.0 / (BEST_FLOW * BEST_FLOW);
const VALVE_LOSS: f64 = 2.0 / (BEST_FLOW * BEST_FLOW);
/// Atmospheric pressure less vapour pressure at 20 °C.
const NPSH_SURFACE: f64 = 9.9;

const SPEED_MAX: f64 = 1.06;
const SPEED_MIN: f64 = 0.6;
/// Of the header pressure controller, per second and relative error.
const CONTROL_GAIN: f64 = 0.6;
const BEARING_LAG_SECONDS: f64 = 6.0;
const COAST_SECONDS: f64 = 1.5;
/// Longest integration step: well below the shortest lag.
const INTEGRATION_SECONDS: f64 = 0.1;
/// Halvings of the header's bracket: 100 m / 2^40 is far below any instrument's resolution.
const BISECTIONS: u32 = 40;

/// What is wrong with a pump, each from 0 (healthy) to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Ailments {
    pub(super) bearing: f64,
    pub(super) vapour: f64,
    pub(super) strainer: f64,
    pub(super) leak: f64,
    pub(super) tripped: bool,
}

/// The true values of one pump, before any instrument.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PumpState {
    /// Through the flow meter, which sits behind the valve.
    pub(super) flow: f64,
    pub(super) suction: f64,
    pub(super) discharge: f64,
    pub(super) speed: f64,
    pub(super) current: f64,
    pub(super) bearing_temp: f64,
    pub(super) vibration: f64,
    pub(super) power: f64,
}

/// One pump: its build tolerances and what it remembers.
struct Pump {
    shutoff_head: f64,
    curve: f64,
    efficiency: f64,
    roughness: f64,
    speed: f64,
    bearing_temp: f64,
    /// Fluctuation of the vapour in the impeller, mean 1 while it cavitates.
    bubbling: f64,
}

pub(super) struct Station {
    pumps: Vec<Pump>,
    /// What the controller asks of every pump.
    speed: f64,
    seconds: f64,
    /// Slow random parts of demand and well level, as fractions (Ornstein–Uhlenbeck).
    demand_drift: f64,
    level_drift: f64,
    random: Random,
}

/// The hydraulic path of one pump at one moment.
struct Path {
    /// Shut-off head at the present speed, vapour included.
    shutoff: f64,
    curve: f64,
    strainer: f64,
    delivered: f64,
}

impl Path {
    /// Flow through the pump against a header head; 0 where the check valve is shut.
    fn flow(&self, well: f64, header: f64) -> f64 {
        let drive = self.shutoff + well - header;
        if drive <= 0.0 { 0.0 } else { (drive / (self.curve + self.strainer + VALVE_LOSS)).sqrt() }
    }
}

impl Station {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut random = Random::new(random.next_u64());
        let pumps = (0..THINGS.len()).map(|_| Pump::new(&mut random)).collect();
        let mut station = Self { pumps, speed: 0.98, seconds: 0.0, demand_drift: 0.0, level_drift: 0.0, random };
        // Ten thermal lags: the controller and the bearings have settled.
        station.advance(10.0 * BEARING_LAG_SECONDS, &[Ailments::default(); THINGS.len()]);
        station
    }

    /// Integrates over `seconds` and answers the state of every pump at the end.
    pub(super) fn advance(&mut self, seconds: f64, ailments: &[Ailments; THINGS.len()]) -> [PumpState; THINGS.len()] {
        let steps = (seconds / INTEGRATION_SECONDS).ceil().max(1.0);
        let mut states = [PumpState::default(); THINGS.len()];
        for _ in 0..steps as u64 {
            states = self.integrate(seconds / steps, ailments);
        }
        states
    }

    fn integrate(&mut self, dt: f64, ailments: &[Ailments; THINGS.len()]) -> [PumpState; THINGS.len()] {
        self.seconds += dt;
        self.demand_drift += -self.demand_drift * dt / 4.0 + 0.0015 * dt.sqrt() * self.random.normal();
        self.level_drift += -self.level_drift * dt / 10.0 + 0.0015 * dt.sqrt() * self.random.normal();
        let well = WELL_LEVEL * (1.0 + self.level_drift);
        let demand = DEMAND_MEAN * (self.daily_demand() + self.demand_drift);
        let ambient = 22.0 + 0.2 * (std::f64::consts::TAU * (self.seconds / DAY_SECONDS - 0.3)).sin();

        let mut paths = Vec::with_capacity(self.pumps.len());
        for (pump, ill) in self.pumps.iter_mut().zip(ailments) {
            pump.turn(dt, self.speed, ill.tripped, &mut self.random);
            paths.push(pump.path(ill, well));
        }
        let header = header_head(&paths, well, demand);
        let error = (HEADER_SETPOINT - header) / HEADER_SETPOINT;
        self.speed = (self.speed + CONTROL_GAIN * error * dt).clamp(SPEED_MIN, SPEED_MAX);

        let mut states = [PumpState::default(); THINGS.len()];
        for (((state, pump), path), ill) in states.iter_mut().zip(&mut self.pumps).zip(&paths).zip(ailments) {
            *state = pump.work(dt, path, ill, Surroundings { well, header, ambient });
        }
        states
    }

    /// Demand over the day as a fraction of its mean: a morning and a lower evening peak, quiet at night. A reservoir
    /// takes most of the swing, so the station sees a few per cent of it.
    fn daily_demand(&self) -> f64 {
        let day = std::f64::consts::TAU * self.seconds / DAY_SECONDS;
        1.0 + 0.02 * day.sin() + 0.008 * (2.0 * day + 0.7).sin()
    }
}

struct Surroundings {
    well: f64,
    header: f64,
    ambient: f64,
}

/// The header head at which the pumps deliver what the consumers take. Delivery falls and taking rises
/// with the head, so there is exactly one, and halving finds it.
fn header_head(paths: &[Path], well: f64, demand: f64) -> f64 {
    let (mut low, mut high) = (CONSUMER_STATIC, 100.0);
    for _ in 0..BISECTIONS {
        let middle = (low + high) / 2.0;
        let delivered: f64 = paths.iter().map(|path| path.flow(well, middle) * path.delivered).sum();
        let taken = demand * ((middle - CONSUMER_STATIC) / (HEADER_SETPOINT - CONSUMER_STATIC)).sqrt();
        if delivered > taken {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

impl Pump {
    /// Built to the tolerances of ISO 9906 grade 1, roughly.
    fn new(random: &mut Random) -> Self {
        let curve = (SHUTOFF_HEAD - RATED_HEAD) / (BEST_FLOW * BEST_FLOW);
        Self {
            shutoff_head: SHUTOFF_HEAD * random.between(0.99, 1.01),
            curve: curve * random.between(0.97, 1.03),
            efficiency: BEST_EFFICIENCY * random.between(0.97, 1.0),
            roughness: random.between(0.85, 1.15),
            speed: 0.98,
            bearing_temp: 40.0,
            bubbling: 1.0,
        }
    }

    fn turn(&mut self, dt: f64, asked: f64, tripped: bool, random: &mut Random) {
        let target = if tripped { 0.0 } else { asked };
        // A drive follows its set point within one integration step unless it is running up or down.
        let lag = if tripped || self.speed < SPEED_MIN { COAST_SECONDS } else { INTEGRATION_SECONDS };
        self.speed += (target - self.speed) * (dt / lag).min(1.0);
        self.bubbling += (1.0 - self.bubbling) * dt / 0.5 + 0.8 * dt.sqrt() * random.normal();
        self.bubbling = self.bubbling.clamp(0.0, 3.0);
    }

    /// How much the impeller cavitates, 0 to 1: grows as the margin of suction head over what it needs
    /// falls below one metre.
    fn cavitation(&self, ill: &Ailments, well: f64) -> f64 {
        // Warm or gassy water takes away up to 11 m of the head that keeps it liquid.
        let available = NPSH_SURFACE + well - 11.0 * ill.vapour;
        let needed = (3.0 + 1.5) * self.speed * self.speed;
        ((1.0 - (available - needed)) / 2.0).clamp(0.0, 1.0)
    }

    fn path(&self, ill: &Ailments, well: f64) -> Path {
        let vapour = 1.0 - 0.07 * self.cavitation(ill, well) * self.bubbling;
        Path {
            shutoff: self.shutoff_head * self.speed * self.speed * vapour,
            curve: self.curve,
            strainer: STRAINER_LOSS * (1.0 + 4.0 * ill.strainer),
            delivered: 1.0 - 0.18 * ill.leak,
        }
    }

    fn work(&mut self, dt: f64, path: &Path, ill: &Ailments, around: Surroundings) -> PumpState {
        let flow = path.flow(around.well, around.header);
        let suction = around.well - path.strainer * flow * flow;
        let head = path.shutoff - path.curve * flow * flow;
        // Affinity laws: the best efficiency point moves with the speed.
        let load = if self.speed > 0.01 { flow / (BEST_FLOW * self.speed) } else { 0.0 };
        let efficiency = self.efficiency * (1.0 - 0.8 * (load - 1.0).powi(2)).max(0.1);
        let friction = (IDLE_KW + 1.0 * ill.bearing) * self.speed.powi(3);
        let shaft = KW_PER_FLOW_HEAD * flow * head.max(0.0) / efficiency + friction;
        let power = shaft / MOTOR_EFFICIENCY;
        // A motor's power factor falls as it is unloaded.
        let power_factor = 0.55 + 0.31 * (shaft / RATED_SHAFT_KW).min(1.2);
        let heat = around.ambient + 20.0 * shaft / RATED_SHAFT_KW + 24.0 * ill.bearing;
        self.bearing_temp += (heat - self.bearing_temp) * (dt / BEARING_LAG_SECONDS).min(1.0);
        let imbalance = 1.4 * self.roughness * self.speed.powi(2) * (1.0 + 1.5 * (load - 1.0).powi(2));
        let rumble = 2.6 * self.cavitation(ill, around.well) * self.bubbling;
        PumpState {
            flow: flow * path.delivered,
            suction: suction * BAR_PER_METRE,
            discharge: (suction + head) * BAR_PER_METRE,
            speed: self.speed * RATED_RPM,
            current: power * 1000.0 / (3f64.sqrt() * MAINS_VOLT * power_factor),
            bearing_temp: self.bearing_temp,
            vibration: imbalance + 3.2 * ill.bearing * self.speed + rumble,
            power,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: [Ailments; THINGS.len()] =
        [Ailments { bearing: 0.0, vapour: 0.0, strainer: 0.0, leak: 0.0, tripped: false }; 6];

    #[test]
    fn no_more_water_is_lifted_than_power_is_paid_for() {
        let mut station = Station::new(&mut Random::new(3));
        for _ in 0..600 {
            for state in station.advance(0.2, &HEALTHY) {
                let head = (state.discharge - state.suction) / BAR_PER_METRE;
                let efficiency = KW_PER_FLOW_HEAD * state.flow * head / state.power;
                assert!((0.6..0.8).contains(&efficiency), "wire to water {efficiency}");
            }
        }
    }

    #[test]
    fn the_controller_holds_the_header_and_the_flow_follows_the_day() {
        let mut station = Station::new(&mut Random::new(4));
        let mut totals = Vec::new();
        for _ in 0..(DAY_SECONDS / 0.2) as usize {
            let states = station.advance(0.2, &HEALTHY);
            totals.push(states.iter().map(|state| state.flow).sum::<f64>());
            for state in states {
                // Header pressure plus the loss over the valve.
                assert!((4.7..5.6).contains(&state.discharge), "{}", state.discharge);
            }
        }
        let (low, high) = totals.iter().fold((f64::MAX, 0.0f64), |(l, h), t| (l.min(*t), h.max(*t)));
        assert!(high / low > 1.03 && high / low < 1.15, "{low} to {high}");
    }

    #[test]
    fn affinity_laws_hold_for_the_head_curve() {
        let mut pump = Pump::new(&mut Random::new(5));
        pump.speed = 1.0;
        let full = pump.path(&Ailments::default(), WELL_LEVEL);
        pump.speed = 0.5;
        let half = pump.path(&Ailments::default(), WELL_LEVEL);
        assert!((full.shutoff / half.shutoff - 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_trip_shifts_its_load_to_the_others() {
        let mut station = Station::new(&mut Random::new(6));
        let mut twin = Station::new(&mut Random::new(6));
        let mut ill = HEALTHY;
        ill[2].tripped = true;
        let (mut tripped, mut healthy) = ([PumpState::default(); 6], [PumpState::default(); 6]);
        for _ in 0..100 {
            tripped = station.advance(0.2, &ill);
            healthy = twin.advance(0.2, &HEALTHY);
        }
        assert!(tripped[2].flow == 0.0 && tripped[2].speed < 1.0 && tripped[2].power < 0.01, "{:?}", tripped[2]);
        for other in [0, 1, 3, 4, 5] {
            assert!(tripped[other].flow > 1.08 * healthy[other].flow, "{:?}", tripped[other]);
            assert!(tripped[other].current > 1.05 * healthy[other].current);
        }
        let back = (0..100).map(|_| station.advance(0.2, &HEALTHY)).last().unwrap();
        let still = (0..100).map(|_| twin.advance(0.2, &HEALTHY)).last().unwrap();
        assert!((back[2].flow / still[2].flow - 1.0).abs() < 0.01, "it comes back: {:?}", back[2]);
    }

    #[test]
    fn a_bearing_warms_with_a_lag() {
        let mut station = Station::new(&mut Random::new(7));
        let before = station.advance(0.1, &HEALTHY)[0].bearing_temp;
        let mut ill = HEALTHY;
        ill[0].bearing = 1.0;
        let soon = station.advance(1.0, &ill)[0].bearing_temp;
        let later = station.advance(30.0, &ill)[0].bearing_temp;
        assert!(soon - before < 6.0 && later - before > 15.0, "{before} {soon} {later}");
    }
}

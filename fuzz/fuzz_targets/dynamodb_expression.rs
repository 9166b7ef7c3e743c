//! Any text as every kind of DynamoDB expression, and as a formula of SiteWise: parsed or refused, and what is parsed can
//! be applied.
#![no_main]

use kilter_door_aws::{
    dynamodb::{
        expression::{Condition, Kind, KeyCondition, Placeholders, Projection, Update},
        value::item_from_json,
    },
    sitewise::Formula,
};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|text: &str| {
    let names = json!({"#n": "a", "#m": "m"});
    let values = json!({":v": {"N": "1"}, ":s": {"S": "s"}, ":l": {"L": []}, ":e": {"SS": ["x"]}});
    let item = json!({"a": {"N": "2"}, "s": {"S": "text"}, "l": {"L": [{"N": "1"}, {"M": {}}]}, "m": {"M": {"k": {"SS": ["x"]}}}});
    let item = item_from_json(item.as_object().expect("an object")).expect("a valid item");
    let all = [(Kind::Condition, Some(text)), (Kind::Update, Some(text))];
    let mut placeholders = Placeholders::read(names.as_object(), values.as_object(), &all).expect("well formed");
    if let Ok(condition) = Condition::parse(Kind::Condition, text, &mut placeholders) {
        let negated = Condition::Not(Box::new(condition.clone()));
        assert_ne!(condition.holds(&item), negated.holds(&item));
    }
    let _ = KeyCondition::parse(text, &mut placeholders, "a", Some("s"));
    if let Ok(projection) = Projection::parse(text, &mut placeholders) {
        let once = projection.cut(&item);
        assert!(once.keys().all(|name| item.contains_key(name)));
    }
    if let Ok(update) = Update::parse(text, &mut placeholders) {
        let _ = update.apply(&item);
    }
    for metric in [false, true] {
        if let Ok(formula) = Formula::parse(text, &["a", "b"], metric) {
            assert!(formula.value(&|_| vec![1.0, 2.0]).is_none_or(f64::is_finite));
        }
    }
});

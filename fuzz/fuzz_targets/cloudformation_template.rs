//! CloudFormation templates, JSON and YAML: whatever comes, reading and planning one ends, and without a panic.
#![no_main]

use kilter_door_aws::cloudformation;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = cloudformation::examine(text);
    // Most bytes are no template: so that what is behind the sections is reached as well.
    let _ = cloudformation::examine(&format!("Resources:\n  T:\n    Type: AWS::IoT::Thing\n    Properties:\n      ThingName: {text}\n"));
    let _ = cloudformation::examine(&format!("Resources: {{T: {{Type: AWS::IoT::Thing}}}}\nConditions:\n  C: {text}\n"));
});

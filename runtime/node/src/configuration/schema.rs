//! The JSON schema of the configuration file, for editors and checks; `deploy/config.schema.json` is a copy that a test holds equal.

use serde_json::{Map, Value, json};

use super::{
    definition::{Definition, Kind, definitions},
    file,
};

/// The schema.
#[must_use]
pub fn schema() -> Value {
    let properties: Map<String, Value> =
        definitions().iter().map(|definition| (definition.name.clone(), property(definition))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of palisade",
        "description": "Each setting is a flag of `palisade node`, too. Flag over environment over file over default.",
        // Null sets nothing: an empty file is a configuration.
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": properties,
    })
}

fn property(definition: &Definition) -> Value {
    let mut property = match &definition.kind {
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer => json!({ "type": "integer", "minimum": i32::from(!takes_zero(definition)) }),
        Kind::Seconds if takes_zero(definition) => json!({ "type": "number", "minimum": 0 }),
        Kind::Seconds => json!({ "type": "number", "exclusiveMinimum": 0 }),
        Kind::Text => json!({ "type": "string" }),
        Kind::OneOf(values) => json!({ "enum": values }),
        Kind::List => json!({ "type": "array", "items": { "type": ["string", "number"] } }),
        Kind::Map => json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } }),
    };
    let Definition { help, flag, environment, .. } = definition;
    property["description"] = json!(format!("{help} ({flag}, {environment})"));
    let typed = |text: &String| match definition.kind {
        Kind::Boolean | Kind::Integer | Kind::Seconds => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        _ => json!(text),
    };
    if let Some(default) = &definition.default {
        property["default"] = typed(default);
    }
    property
}

/// As its own flag says.
fn takes_zero(definition: &Definition) -> bool {
    file::read("", format!("{}: 0", definition.name).as_bytes()).1.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_configuration_schema_is_the_one_that_is_deployed() {
        let deployed = include_str!("../../../../deploy/config.schema.json");
        assert_eq!(
            format!("{:#}\n", schema()),
            deployed,
            "write it anew: palisade config schema > deploy/config.schema.json"
        );
    }

    #[test]
    fn unit_configuration_schema_takes_its_own_defaults_and_the_example() {
        let validator = jsonschema::validator_for(&schema()).expect("a schema");
        let defaults: Map<String, Value> = schema()["properties"]
            .as_object()
            .expect("properties")
            .iter()
            .filter_map(|(name, property)| Some((name.clone(), property.get("default")?.clone())))
            .collect();
        assert!(defaults.len() > 10, "{defaults:?}");
        validator.validate(&Value::Object(defaults)).expect("valid");
        let example = include_bytes!("../../../../deploy/config.yaml");
        assert_eq!(super::super::file::read("config.yaml", example).1, []);
        assert!(!validator.is_valid(&json!({ "maxWorkload": 3 })), "unknown");
        assert!(!validator.is_valid(&json!({ "hostPolicy": "true" })), "text is no boolean");
        assert!(!validator.is_valid(&json!({ "onUnknownPath": "deny" })));
        // What a help text says of 0 holds in the file and for its checker alike.
        for (setting, takes_zero) in
            [("foldWindow", true), ("observationRate", true), ("policyInterval", false), ("throttleSec", false)]
        {
            assert_eq!(validator.is_valid(&json!({ setting: 0 })), takes_zero, "{setting}");
            let problems = super::super::file::read("c.yaml", format!("{setting}: 0").as_bytes()).1;
            assert_eq!(problems.is_empty(), takes_zero, "{setting}: {problems:?}");
        }
    }
}

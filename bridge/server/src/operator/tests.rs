//! The document of the API, held to the table of what can be asked. What is answered is tested over sockets.

use std::collections::BTreeSet;

use serde_json::Value;

use super::api::DOCUMENT;
use super::routes::{ROUTES, Whom};

#[test]
fn the_document_shows_every_route_and_no_other() {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut documented = BTreeSet::new();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let text = |key: &str| operation[key].as_str().unwrap_or("").to_owned();
            let name = text("operationId");
            assert!(names.insert(name.clone()), "{path}: named as another one");
            let takes_body = operation["requestBody"].is_object();
            documented.insert((
                (method.to_uppercase(), path.clone(), name, takes_body),
                (text("x-scope"), text("x-tenants")),
            ));
            assert!(operation["responses"]["default"].is_object(), "{path}: says no why not");
            let named = path.matches('{').count();
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let of_path = parameters.filter(|parameter| parameter["$ref"].is_string()).count();
            assert_eq!(named, of_path, "{path}: what it names is not told");
        }
    }
    let routes: BTreeSet<_> = ROUTES
        .iter()
        .map(|route| {
            let tenants = if route.whom == Whom::Each { "own" } else { "none" };
            let scope = route.scope.name().to_owned();
            let (method, path) = (route.method.to_string(), route.path.to_owned());
            let name = route.name.to_owned();
            ((method, path, name, route.takes_body), (scope, tenants.to_owned()))
        })
        .collect();
    assert_eq!(documented, routes);
    assert_eq!(routes.len(), ROUTES.len(), "a route is there twice");
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn follow(value: &Value, document: &Value) -> usize {
        match value {
            Value::Object(map) => map.iter().fold(0, |count, (key, value)| {
                let Some(target) = value.as_str().filter(|_| key == "$ref") else {
                    return count + follow(value, document);
                };
                let pointer = target.strip_prefix('#').expect("within the document");
                assert!(document.pointer(pointer).is_some(), "{target}");
                count + 1
            }),
            Value::Array(items) => items.iter().map(|item| follow(item, document)).sum(),
            _ => 0,
        }
    }
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    assert!(follow(&document, &document) > 10);
}

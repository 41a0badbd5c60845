//! What a `tokenizer.json` may ask for and the crate cannot bear: with these parts it panics, or asks for memory that
//! nothing bounds. They are refused as the file is read.

use serde_json::{Map, Value};

/// The first such part, in words. Parts are known by their fields: their `type` may be missing.
pub(super) fn unbearable(json: &Value) -> Option<&'static str> {
    let decoder = &json["decoder"];
    let has = |part: &Value, key: &str| any(part, &|fields| fields.contains_key(key));
    let number = |fields: &Map<String, Value>, key: &str| fields.get(key).and_then(Value::as_u64);
    let precompiled = |fields: &Map<String, Value>| {
        fields.contains_key("precompiled_charsmap")
            || fields.get("type") == Some(&"Precompiled".into())
    };
    if any(&json["normalizer"], &precompiled) {
        return Some("a table of characters, whose places it does not check");
    }
    if any(&json["pre_tokenizer"], &|fields| number(fields, "length") == Some(0)) {
        return Some("words of no length");
    }
    if any(decoder, &|fields| number(fields, "stop") > Some(0)) {
        return Some("a decoder that strips the ends of tokens, which may be shorter");
    }
    let from_none = has(decoder, "pad_token") && has(decoder, "suffix");
    from_none.then_some("a decoder that leaves no tokens to one that needs some")
}

/// Whether a part, or one in it, is so.
fn any(part: &Value, is: &dyn Fn(&Map<String, Value>) -> bool) -> bool {
    match part {
        Value::Object(fields) => is(fields) || fields.values().any(|part| any(part, is)),
        Value::Array(parts) => parts.iter().any(|part| any(part, is)),
        _ => false,
    }
}

//! JSON: an array of objects, or an object a line. The keys are the columns.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::delimited::lines;
use super::{Row, Sheet, without_mark};

/// The objects of a file, a row each. A key that an object lacks, and null, are an empty cell.
pub(crate) fn sheet(bytes: &[u8]) -> Result<Sheet, String> {
    let mut malformed = Vec::new();
    let mut objects = Vec::new();
    if without_mark(bytes).trim_ascii_start().starts_with(b"[") {
        let array: Vec<Value> = serde_json::from_slice(without_mark(bytes)).map_err(|error| error.to_string())?;
        objects.extend(array.into_iter().zip(1..).map(|(value, at)| (at, value)));
    } else {
        for (line, text) in lines(bytes) {
            let value = text.and_then(|text| serde_json::from_str(text).map_err(|error| error.to_string()));
            match value {
                Ok(value) => objects.push((line, value)),
                Err(what) => malformed.push((line, what)),
            }
        }
    }
    let mut rows = Vec::with_capacity(objects.len());
    for (line, value) in objects {
        match value {
            Value::Object(object) => rows.push((line, object)),
            other => malformed.push((line, format!("is {}; expected an object", cell(&other)))),
        }
    }
    malformed.sort();
    Ok(Sheet { malformed, ..of_objects(&rows) })
}

fn of_objects(objects: &[(u64, Map<String, Value>)]) -> Sheet {
    let mut columns: HashMap<&str, usize> = HashMap::new();
    let mut names = Vec::new();
    for key in objects.iter().flat_map(|(_, object)| object.keys()) {
        if !columns.contains_key(key.as_str()) {
            columns.insert(key, names.len());
            names.push(key.clone());
        }
    }
    let row = |(line, object): &(u64, Map<String, Value>)| {
        let mut cells = vec![String::new(); names.len()];
        for (key, value) in object {
            if let Some(place) = columns.get(key.as_str()).and_then(|at| cells.get_mut(*at)) {
                *place = cell(value);
            }
        }
        Row { line: *line, cells }
    };
    Sheet { rows: objects.iter().map(row).collect(), columns: names, malformed: Vec::new() }
}

/// A value as text: a string's own, a number's digits, nothing for null, and JSON for the rest.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRAY: &[u8] = br#"[{"image": "a.jpg", "gt_score": 3.25, "id": 7},
        {"gt_score": "4.5", "image": "b.jpg"}, {"image": "c.jpg", "gt_score": null}, 5]"#;

    #[test]
    fn an_array_gives_its_elements_by_number_whatever_the_order_of_the_keys() {
        let sheet = sheet(ARRAY).unwrap();
        assert_eq!(sheet.columns, ["image", "gt_score", "id"]);
        let rows: Vec<_> = sheet.rows.iter().map(|row| (row.line, row.cells.join("|"))).collect();
        assert_eq!(rows, [(1, "a.jpg|3.25|7".to_owned()), (2, "b.jpg|4.5|".to_owned()), (3, "c.jpg||".to_owned())]);
        assert_eq!(sheet.malformed, [(4, "is 5; expected an object".to_owned())]);
    }

    #[test]
    fn a_bad_line_is_malformed_and_the_others_are_read() {
        let sheet =
            sheet(b"{\"image\":\"a.jpg\",\"mos\":1}\n\n{\"image\":\"b.j\n{\"image\":\"c.jpg\",\"mos\":2}").unwrap();
        assert_eq!(sheet.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(sheet.malformed[0].0, 3);
    }

    #[test]
    fn an_array_that_is_cut_short_is_refused() {
        assert!(sheet(&ARRAY[..ARRAY.len() - 4]).unwrap_err().contains("EOF"));
    }
}

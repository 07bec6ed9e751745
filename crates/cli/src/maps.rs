//! A compiled scheduler's maps in the report: `--dump-map`.

use scxlab_bpf::object::Value;
use scxlab_bpf::sched::{Element, Key, MapDump};
use scxlab_engine::Engine;
use serde_json::{Map, Value as Json, json};

/// Elements of a map that a report has, at most.
pub const MOST: usize = 65_536;

/// A map as JSON: an object of variables, or a list of elements. Values that belong to a task that is
/// freed are left out, as the kernel frees them with the task.
pub fn json(dump: &MapDump, engine: &Engine) -> Json {
    match dump {
        MapDump::Variables { variables, left_out } => {
            let there = variables.iter().map(|(name, value)| (name.clone(), plain(value)));
            let more = left_out.iter().map(|(name, size)| {
                (name.clone(), json!({ "more": format!("its {size} bytes are left out") }))
            });
            there.chain(more).collect::<Map<_, _>>().into()
        }
        MapDump::Elements { elements, more } => {
            let mut all: Vec<Json> =
                elements.iter().filter_map(|element| self::element(element, engine)).collect();
            if *more {
                all.push(json!({ "more": format!("only the first {} are here", elements.len()) }));
            }
            all.into()
        }
    }
}

fn element(element: &Element, engine: &Engine) -> Option<Json> {
    let key = match &element.key {
        Key::Value(value) => plain(value),
        Key::Task(slot) => {
            let task = engine.task_at(*slot)?;
            json!({ "comm": task.comm(), "pid": task.pid, "tid": task.scx.tid })
        }
        Key::Cgroup(id) => json!({ "cgroup": id }),
        Key::Place(place) => json!(place),
    };
    let mut json = Map::new();
    json.insert("key".to_owned(), key);
    match &element.values[..] {
        [(None, value)] => json.insert("value".to_owned(), plain(value)),
        all => {
            let cpu = |cpu: Option<u32>| cpu.map_or_else(String::new, |cpu| cpu.to_string());
            let all = all.iter().map(|(of, value)| (cpu(*of), plain(value)));
            json.insert("cpus".to_owned(), all.collect::<Map<_, _>>().into())
        }
    };
    Some(json.into())
}

/// A value as JSON: enumerators by name, bytes without a type in hex.
fn plain(value: &Value) -> Json {
    match value {
        Value::Bool(value) => json!(value),
        Value::Number(number) => match (u64::try_from(*number), i64::try_from(*number)) {
            (Ok(number), _) => json!(number),
            (_, Ok(number)) => json!(number),
            // Larger than any program's integer but 128 bits.
            _ => json!(number.to_string()),
        },
        Value::Float(number) => json!(number),
        Value::Name(name, _) => json!(name),
        Value::Text(text) => json!(text),
        Value::Bytes(bytes) => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let digits =
                |byte: &u8| [byte >> 4, byte & 15].map(|n| char::from(DIGITS[usize::from(n)]));
            bytes.iter().flat_map(digits).collect::<String>().into()
        }
        Value::List(all) => all.iter().map(plain).collect::<Vec<_>>().into(),
        Value::Members(all) => all
            .iter()
            .map(|(name, value)| (name.clone(), plain(value)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_hex() {
        assert_eq!(plain(&Value::Bytes(vec![0, 0x0f, 0xa5, 0xff])), json!("000fa5ff"));
    }
}

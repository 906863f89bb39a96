//! What a setting's value may be, how it is read from text or TOML, and how it is written. Must not know: which settings
//! there are.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeArray, DeValue};

use super::units::{parse_duration, parse_size, write_duration, write_size};

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A file, folder or socket.
    Path,
    /// An IP address and a port.
    Address,
    /// Some text: a name, a filter.
    Word,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Permission bits.
    Mode,
    /// A list of words.
    Words,
    /// A list of user or group numbers.
    Ids,
    /// A whole number within bounds.
    Count {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// A number of bytes within bounds.
    Size {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// A time within bounds.
    Time {
        /// The least.
        min: Duration,
        /// The greatest.
        max: Duration,
    },
}

/// A setting's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A file, folder or socket.
    Path(PathBuf),
    /// An IP address and a port.
    Address(SocketAddr),
    /// Some text.
    Word(String),
    /// Permission bits.
    Mode(u32),
    /// A list of words.
    Words(Vec<String>),
    /// A list of user or group numbers.
    Ids(Vec<u32>),
    /// A whole number.
    Count(u64),
    /// A number of bytes.
    Size(u64),
    /// A time.
    Time(Duration),
}

impl Kind {
    /// What values are measured in or look like, in a word.
    pub fn unit(&self) -> &'static str {
        match self {
            Kind::Path => "path",
            Kind::Address => "IP:PORT",
            Kind::Word => "text",
            Kind::OneOf(_) => "word",
            Kind::Mode => "octal",
            Kind::Words => "list of names",
            Kind::Ids => "list of numbers",
            Kind::Count { .. } => "number",
            Kind::Size { .. } => "bytes",
            Kind::Time { .. } => "time",
        }
    }

    /// Reads what an environment variable or a flag says; lists have commas. The error says what is wrong and what is right.
    pub(super) fn read_text(&self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        match self {
            Kind::Path if text.is_empty() => Err("the path is empty".to_string()),
            Kind::Path => Ok(Value::Path(PathBuf::from(text))),
            Kind::Address => text.parse().map(Value::Address).map_err(|_| {
                format!("\"{text}\" is no address; write an IP address and a port, e.g. 127.0.0.1:7070 or [::1]:7070")
            }),
            Kind::Word if text.is_empty() => Err("the value is empty; leave the key out instead".to_string()),
            Kind::Word => Ok(Value::Word(text.to_string())),
            Kind::OneOf(words) if words.contains(&text) => Ok(Value::Word(text.to_string())),
            Kind::OneOf(words) => Err(format!("\"{text}\" is none of {}", words.join(", "))),
            Kind::Mode => match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o777 => Ok(Value::Mode(mode)),
                _ => Err(format!("\"{text}\" is no mode; write permission bits in octal, e.g. \"0660\"")),
            },
            Kind::Words => Ok(Value::Words(items(text).map(str::to_string).collect())),
            Kind::Ids => items(text).map(read_id).collect::<Result<_, _>>().map(Value::Ids),
            Kind::Count { .. } => {
                let number = text.parse().map_err(|_| format!("\"{text}\" is no whole number"))?;
                self.within(Value::Count(number))
            }
            Kind::Size { .. } => self.within(Value::Size(parse_size(text)?)),
            Kind::Time { .. } => self.within(Value::Time(parse_duration(text)?)),
        }
    }

    /// Reads what a file says.
    pub(super) fn read_toml(&self, value: &DeValue) -> Result<Value, String> {
        match (self, value) {
            (Kind::Count { .. }, DeValue::Integer(number)) => self.within(Value::Count(unsigned(number)?)),
            (Kind::Size { .. }, DeValue::Integer(number)) => self.within(Value::Size(unsigned(number)?)),
            (Kind::Count { .. }, DeValue::String(text)) if text.parse::<u64>().is_ok() => {
                Err(format!("\"{text}\" is text; write the number without quotes"))
            }
            (Kind::Words, DeValue::Array(array)) => words(array).map(Value::Words),
            (Kind::Ids, DeValue::Array(array)) => ids(array).map(Value::Ids),
            (Kind::Words | Kind::Ids, value) => Err(format!("found {}; write {}", described(value), self.example())),
            (_, DeValue::String(text)) => self.read_text(text),
            (_, other) => Err(format!("found {}; write {}", described(other), self.example())),
        }
    }

    fn within(&self, value: Value) -> Result<Value, String> {
        let (inside, least, bounds) = match (self, &value) {
            (Kind::Count { min, max }, Value::Count(number)) => {
                ((min..=max).contains(&number), *max == u64::MAX, (min.to_string(), max.to_string()))
            }
            (Kind::Size { min, max }, Value::Size(bytes)) => {
                ((min..=max).contains(&bytes), *max == u64::MAX, (write_size(*min), write_size(*max)))
            }
            (Kind::Time { min, max }, Value::Time(time)) => {
                ((min..=max).contains(&time), false, (write_duration(*min), write_duration(*max)))
            }
            _ => return Ok(value),
        };
        match (inside, least) {
            (true, _) => Ok(value),
            (false, true) => Err(format!("{value} is too little; it must be at least {}", bounds.0)),
            (false, false) => Err(format!("{value} is not between {} and {}", bounds.0, bounds.1)),
        }
    }

    /// What to write in a file.
    fn example(&self) -> String {
        match self {
            Kind::Path => "a path in quotes".to_string(),
            Kind::Address => "an address in quotes, e.g. \"127.0.0.1:7070\"".to_string(),
            Kind::Word => "text in quotes".to_string(),
            Kind::OneOf(words) => format!("one of \"{}\"", words.join("\", \"")),
            Kind::Mode => "permission bits in octal in quotes, e.g. \"0660\"".to_string(),
            Kind::Words => "a list, e.g. [\"one\", \"two\"]".to_string(),
            Kind::Ids => "a list of numbers, e.g. [0, 1000]".to_string(),
            Kind::Count { .. } => "a whole number".to_string(),
            Kind::Size { .. } => "a size, e.g. \"64MiB\" or a number of bytes".to_string(),
            Kind::Time { .. } => "a time with a unit, e.g. \"30s\"".to_string(),
        }
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn read_id(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("\"{text}\" is no user or group number"))
}

fn unsigned(number: &toml::de::DeInteger) -> Result<u64, String> {
    u64::from_str_radix(number.as_str(), number.radix()).map_err(|_| format!("{number} is not between 0 and 2^64"))
}

fn words(array: &DeArray) -> Result<Vec<String>, String> {
    let word = |item: &DeValue| match item {
        DeValue::String(text) => Ok(text.to_string()),
        other => Err(format!("found {} in the list; write {}", described(other), Kind::Words.example())),
    };
    array.iter().map(|item| word(item.get_ref())).collect()
}

fn ids(array: &DeArray) -> Result<Vec<u32>, String> {
    let id = |item: &DeValue| match item {
        DeValue::Integer(number) if number.radix() == 10 => read_id(number.as_str()),
        other => Err(format!("found {} in the list; write {}", described(other), Kind::Ids.example())),
    };
    array.iter().map(|item| id(item.get_ref())).collect()
}

/// A value in an error message.
pub(super) fn described(value: &DeValue) -> String {
    match value {
        DeValue::String(text) => format!("the text \"{text}\""),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(_) => "a list".to_string(),
        DeValue::Table(_) => "a section".to_string(),
    }
}

/// As it is written in an environment variable.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Value::Path(path) => path.display().fmt(f),
            Value::Address(address) => address.fmt(f),
            Value::Word(text) => f.write_str(text),
            Value::Mode(mode) => write!(f, "{mode:04o}"),
            Value::Words(words) => f.write_str(&words.join(",")),
            Value::Ids(ids) => f.write_str(&ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
            Value::Count(number) => number.fmt(f),
            Value::Size(bytes) => f.write_str(&write_size(*bytes)),
            Value::Time(time) => f.write_str(&write_duration(*time)),
        }
    }
}

impl Value {
    /// As it could stand in the file; sizes are numbers of bytes.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Words(words) => words.clone().into(),
            Value::Ids(ids) => ids.clone().into(),
            Value::Count(number) | Value::Size(number) => (*number).into(),
            other => other.to_string().into(),
        }
    }
}

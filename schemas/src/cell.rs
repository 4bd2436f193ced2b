//! What a column can hold: the way from Rust values to Arrow arrays and back, for each type of cell.

use std::sync::Arc;

use arrow::compute::cast;
use arrow_array::builder::{ListBuilder, StringBuilder, StringDictionaryBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int32Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, BooleanArray, PrimitiveArray, StringArray};
use arrow_schema::{DataType, Field};

use crate::{ImageId, PairId};

/// A type that fills a column.
pub trait Value: Sized {
    /// Its Arrow type.
    fn data_type() -> DataType;
    /// An array of `cells`; `None` is null.
    fn array<'a>(cells: impl Iterator<Item = Option<&'a Self>>) -> ArrayRef
    where
        Self: 'a;
    /// The values of `array`, which has this type or one it accepts. Errors name the row (0-based) and what is wrong.
    fn values(array: &ArrayRef) -> Result<Vec<Option<Self>>, (usize, String)>;
    /// Whether an array of type `found` can be read as this one (text comes in several layouts).
    fn accepts(found: &DataType) -> bool {
        *found == Self::data_type()
    }
}

/// A field of a row: a [`Value`] that must be there, or an `Option` of one.
pub trait Cell: Sized {
    /// The value's type.
    type Value: Value;
    /// Whether null is allowed.
    const NULLABLE: bool;
    /// The value, if there is one.
    fn value(&self) -> Option<&Self::Value>;
    /// The cell of a value; `None` where a required value is missing.
    fn cell(value: Option<Self::Value>) -> Option<Self>;
}

impl<T: Value> Cell for Option<T> {
    type Value = T;
    const NULLABLE: bool = true;
    fn value(&self) -> Option<&T> {
        self.as_ref()
    }
    fn cell(value: Option<T>) -> Option<Self> {
        Some(value)
    }
}

macro_rules! required {
    ($($t:ty),+) => { $(
        impl $crate::Cell for $t {
            type Value = $t;
            const NULLABLE: bool = false;
            fn value(&self) -> Option<&$t> {
                Some(self)
            }
            fn cell(value: Option<$t>) -> Option<Self> {
                value
            }
        }
    )+ };
}
pub(crate) use required;

macro_rules! number {
    ($($t:ty => $arrow:ty, $name:ident;)+) => { $(
        impl Value for $t {
            fn data_type() -> DataType {
                DataType::$name
            }
            fn array<'a>(cells: impl Iterator<Item = Option<&'a Self>>) -> ArrayRef {
                Arc::new(cells.map(Option::<&$t>::copied).collect::<PrimitiveArray<$arrow>>())
            }
            fn values(array: &ArrayRef) -> Result<Vec<Option<Self>>, (usize, String)> {
                Ok(array.as_primitive::<$arrow>().iter().collect())
            }
        }
        required!($t);
    )+ };
}
number! {
    i8 => Int8Type, Int8;
    u8 => UInt8Type, UInt8;
    u16 => UInt16Type, UInt16;
    u32 => UInt32Type, UInt32;
    u64 => UInt64Type, UInt64;
    f32 => Float32Type, Float32;
    f64 => Float64Type, Float64;
}

impl Value for bool {
    fn data_type() -> DataType {
        DataType::Boolean
    }
    fn array<'a>(cells: impl Iterator<Item = Option<&'a Self>>) -> ArrayRef {
        Arc::new(cells.map(Option::<&bool>::copied).collect::<BooleanArray>())
    }
    fn values(array: &ArrayRef) -> Result<Vec<Option<Self>>, (usize, String)> {
        Ok(array.as_boolean().iter().collect())
    }
}
required!(bool);

/// Whether `found` is text in any of Arrow's layouts.
pub(crate) fn is_text(found: &DataType) -> bool {
    match found {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// `array` as plain text, whatever its layout.
pub(crate) fn as_text(array: &ArrayRef) -> Result<StringArray, (usize, String)> {
    let plain = cast(array, &DataType::Utf8).map_err(|error| (0, error.to_string()))?;
    Ok(plain.as_string::<i32>().clone())
}

macro_rules! text {
    ($t:ty, $to:expr, $from:expr) => {
        impl Value for $t {
            fn data_type() -> DataType {
                DataType::Utf8
            }
            fn array<'a>(cells: impl Iterator<Item = Option<&'a Self>>) -> ArrayRef {
                let to: fn(&$t) -> &str = $to;
                Arc::new(cells.map(|cell| cell.map(to)).collect::<StringArray>())
            }
            fn values(array: &ArrayRef) -> Result<Vec<Option<Self>>, (usize, String)> {
                let from: fn(&str) -> $t = $from;
                Ok(as_text(array)?.iter().map(|text| text.map(from)).collect())
            }
            fn accepts(found: &DataType) -> bool {
                is_text(found)
            }
        }
        required!($t);
    };
}
text!(String, |text| text.as_str(), |text| text.to_owned());
text!(ImageId, |id| id.as_str(), |text| ImageId::from(text));
text!(PairId, |id| id.as_str(), |text| PairId::from(text));

impl Value for Vec<ImageId> {
    fn data_type() -> DataType {
        DataType::List(Arc::new(Field::new("item", DataType::Utf8, false)))
    }
    fn array<'a>(cells: impl Iterator<Item = Option<&'a Self>>) -> ArrayRef {
        let field = Field::new("item", DataType::Utf8, false);
        let mut builder = ListBuilder::new(StringBuilder::new()).with_field(field);
        for cell in cells {
            for id in cell.into_iter().flatten() {
                builder.values().append_value(id.as_str());
            }
            builder.append(cell.is_some());
        }
        Arc::new(builder.finish())
    }
    fn values(array: &ArrayRef) -> Result<Vec<Option<Self>>, (usize, String)> {
        let list = array.as_list::<i32>();
        let mut lists = Vec::with_capacity(list.len());
        for row in 0..list.len() {
            if list.is_null(row) {
                lists.push(None);
                continue;
            }
            let items = as_text(&list.value(row)).map_err(|(_, what)| (row, what))?;
            let ids: Option<Vec<ImageId>> = items.iter().map(|id| id.map(ImageId::from)).collect();
            lists.push(Some(ids.ok_or((row, "has a null item".to_owned()))?));
        }
        Ok(lists)
    }
    fn accepts(found: &DataType) -> bool {
        matches!(found, DataType::List(item) if is_text(item.data_type()))
    }
}
required!(Vec<ImageId>);

/// An array of enumerated text, dictionary-encoded.
pub(crate) fn dictionary<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    let mut builder = StringDictionaryBuilder::<Int32Type>::new();
    for cell in cells {
        builder.append_option(cell);
    }
    Arc::new(builder.finish())
}

/// The Arrow type of enumerated text.
pub(crate) fn dictionary_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// Declares an enumeration that is stored as checked, dictionary-encoded text.
macro_rules! enumeration {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The value as it stands in the table.
            pub fn as_str(&self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().find(|value| value.as_str() == text).copied().ok_or_else(|| {
                    let names: Vec<_> = Self::ALL.iter().map(Self::as_str).collect();
                    format!("is `{text}`; expected one of {}", names.join(", "))
                })
            }
        }
        impl $crate::Value for $name {
            fn data_type() -> arrow_schema::DataType {
                $crate::cell::dictionary_type()
            }
            fn array<'a>(cells: impl Iterator<Item = Option<&'a Self>>) -> arrow_array::ArrayRef {
                $crate::cell::dictionary(cells.map(|cell| cell.map(Self::as_str)))
            }
            fn values(array: &arrow_array::ArrayRef) -> Result<Vec<Option<Self>>, (usize, String)> {
                let text = $crate::cell::as_text(array)?;
                text.iter().enumerate().map(|(row, cell)| {
                    cell.map(|cell| cell.parse().map_err(|what| (row, what))).transpose()
                }).collect()
            }
            fn accepts(found: &arrow_schema::DataType) -> bool {
                $crate::cell::is_text(found)
            }
        }
        $crate::cell::required!($name);
    };
}
pub(crate) use enumeration;

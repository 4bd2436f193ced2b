//! MATLAB files of version 5 (`.mat` as `save` wrote it before 7.3): arrays of numbers and cell arrays of texts. Anything else in
//! them is passed over. Arrays of numbers are written as well.
//!
//! A file is a header of 128 bytes and elements, each a tag (type and size) and data padded to 8 bytes. A variable is an element
//! of the type matrix, whose own elements are flags, dimensions, name and content; it may stand in a compressed element.

use std::io::Read;

use flate2::bufread::ZlibDecoder;

/// The most bytes that a compressed variable may unpack to. The names of LIVE in the Wild are about 130 thousand.
const UNPACKED: u64 = 1 << 26;

/// Types of elements.
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT16: u32 = 3;
const UINT16: u32 = 4;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const SINGLE: u32 = 7;
const DOUBLE: u32 = 9;
const INT64: u32 = 12;
const UINT64: u32 = 13;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
const UTF8: u32 = 16;
const UTF16: u32 = 17;

/// Classes of matrices.
const CELL: u8 = 1;
const CHAR: u8 = 4;
const DOUBLES: u32 = 6;
const NUMBERS: std::ops::RangeInclusive<u8> = 6..=15;
const LONG: u8 = 14;
const UNSIGNED_LONG: u8 = 15;
/// The flag of complex numbers.
const COMPLEX: u8 = 0x08;

/// The numbers of the variable `name` in the file `bytes`, column by column.
///
/// Errors say what is wrong with the file; they begin with a verb or name the variable.
pub fn numbers(bytes: &[u8], name: &str) -> Result<Vec<f64>, String> {
    variable(bytes, name, numbers_in)
}

/// The texts of the variable `name`, a cell array, in the file `bytes`, column by column.
///
/// Errors say what is wrong with the file; they begin with a verb or name the variable.
pub fn texts(bytes: &[u8], name: &str) -> Result<Vec<String>, String> {
    variable(bytes, name, texts_in)
}

/// A file with these variables: the name, rows and columns, and the numbers of each, column by column. Least significant bytes
/// first, not compressed, and without a date: equal variables make equal files.
pub fn file(variables: &[(&str, [usize; 2], &[f64])]) -> Vec<u8> {
    let mut file = format!("{:<124}", "MATLAB 5.0 MAT-file").into_bytes();
    file.extend(b"\x00\x01IM");
    for (name, dims, numbers) in variables {
        assert_eq!(dims[0] * dims[1], numbers.len(), "`{name}` has the numbers that its dimensions say");
        let words = |words: [u32; 2]| words.map(u32::to_le_bytes).concat();
        let matrix = [
            element(UINT32, &words([DOUBLES, 0])),
            element(INT32, &words(dims.map(|it| it as u32))),
            element(INT8, name.as_bytes()),
            element(DOUBLE, &numbers.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<u8>>()),
        ];
        file.extend(element(MATRIX, &matrix.concat()));
    }
    file
}

/// An element, padded.
fn element(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = [kind, data.len() as u32].map(u32::to_le_bytes).concat();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// What `read` makes of the variable `name`.
fn variable<T>(bytes: &[u8], name: &str, read: impl Fn(Matrix) -> Result<T, String>) -> Result<T, String> {
    let mut file = Elements { rest: bytes, big: false };
    let header = file.take(128).map_err(|_| "is too short for a MATLAB file; fetch the file again".to_owned())?;
    file.big = match header.get(124..) {
        Some([0x00, 0x01, b'I', b'M']) => false,
        Some([0x01, 0x00, b'M', b'I']) => true,
        Some([0x00, 0x02, b'I', b'M'] | [0x02, 0x00, b'M', b'I']) => {
            return Err("is a MATLAB file of version 7.3; save it with -v7 in MATLAB".to_owned());
        }
        _ => return Err("is not a MATLAB file of version 5; expected its header".to_owned()),
    };
    let mut others = Vec::new();
    while !file.rest.is_empty() {
        let (kind, data) = file.next()?;
        let unpacked = if kind == COMPRESSED { unpacked(data)? } else { Vec::new() };
        let (kind, data) = match kind {
            COMPRESSED => file.only(&unpacked)?,
            _ => (kind, data),
        };
        if kind != MATRIX {
            continue;
        }
        let matrix = Matrix::of(file.with(data))?;
        if matrix.name == name.as_bytes() {
            return read(matrix).map_err(|what| format!("variable `{name}` {what}"));
        }
        others.push(String::from_utf8_lossy(matrix.name).into_owned());
    }
    Err(format!("no variable `{name}` in the file ({}); expected it as distributed", others.join(", ")))
}

fn unpacked(data: &[u8]) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    let mut decoder = ZlibDecoder::new(data).take(UNPACKED);
    decoder.read_to_end(&mut unpacked).map_err(|error| format!("a compressed variable is damaged: {error}"))?;
    if decoder.limit() == 0 || !decoder.into_inner().into_inner().is_empty() {
        return Err("a compressed variable is damaged: it does not end where it should".to_owned());
    }
    Ok(unpacked)
}

/// Elements, one behind the other.
#[derive(Debug, Clone, Copy)]
struct Elements<'a> {
    rest: &'a [u8],
    /// Whether the most significant byte comes first.
    big: bool,
}

impl<'a> Elements<'a> {
    /// Other elements of the same file.
    fn with<'b>(&self, rest: &'b [u8]) -> Elements<'b> {
        Elements { rest, big: self.big }
    }

    /// The only element of `data`.
    fn only<'b>(&self, data: &'b [u8]) -> Result<(u32, &'b [u8]), String> {
        let mut elements = self.with(data);
        let only = elements.next()?;
        if elements.rest.is_empty() {
            Ok(only)
        } else {
            Err("a compressed variable is more than one element".to_owned())
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("is cut short; fetch the file again")?;
        self.rest = rest;
        Ok(taken)
    }

    fn word(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?.try_into().map_err(|_| "is cut short")?;
        Ok(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// The next element's type and data. Up to four bytes may stand in the tag itself, where the size else stands.
    fn next(&mut self) -> Result<(u32, &'a [u8]), String> {
        let kind = self.word()?;
        let (short, kind) = (kind >> 16, kind & 0xffff);
        if short > 0 {
            let data = self.take(4)?;
            let data = data.get(..short as usize).ok_or_else(|| format!("a short element claims {short} bytes"))?;
            return Ok((kind, data));
        }
        let size = self.word()? as usize;
        let data = self.take(size)?;
        // Compressed elements are not padded, and the last padding may be left off.
        if kind != COMPRESSED {
            self.take((size.next_multiple_of(8) - size).min(self.rest.len()))?;
        }
        Ok((kind, data))
    }

    /// The next element, which must be of one of these types.
    fn of(&mut self, kinds: &[u32]) -> Result<(u32, &'a [u8]), String> {
        let (kind, data) = self.next()?;
        if kinds.contains(&kind) {
            Ok((kind, data))
        } else {
            Err(format!("an element is of type {kind}; expected {kinds:?}"))
        }
    }

    /// The words of the next element, of type `kind`.
    fn words(&mut self, kind: u32) -> Result<Vec<u32>, String> {
        let (_, data) = self.of(&[kind])?;
        let mut words = self.with(data);
        (0..data.len() / 4).map(|_| words.word()).collect()
    }
}

/// A variable, or a cell of one.
struct Matrix<'a> {
    class: u8,
    complex: bool,
    dims: Vec<u32>,
    name: &'a [u8],
    content: Elements<'a>,
}

impl<'a> Matrix<'a> {
    fn of(mut elements: Elements<'a>) -> Result<Self, String> {
        let flags = elements.words(UINT32)?.first().copied().unwrap_or_default().to_le_bytes();
        let dims = elements.words(INT32)?;
        let (_, name) = elements.of(&[INT8])?;
        Ok(Self { class: flags[0], complex: flags[1] & COMPLEX != 0, dims, name, content: elements })
    }

    /// How many cells it has: of a vector or an array of two dimensions.
    fn count(&self) -> Result<usize, String> {
        match self.dims[..] {
            [rows, columns] => Ok(rows as usize * columns as usize),
            _ => Err(format!("has {} dimensions; expected 2", self.dims.len())),
        }
    }

    /// The text of a cell that holds one row of characters, or nothing.
    fn text(mut self) -> Result<String, String> {
        let count = self.count()?;
        if self.class != CHAR || self.dims.first().is_some_and(|rows| *rows > 1) {
            return Err(format!("is of class {} with dimensions {:?}; expected a line of text", self.class, self.dims));
        }
        if count == 0 && self.content.rest.is_empty() {
            return Ok(String::new());
        }
        let (kind, data) = self.content.next()?;
        let units: Vec<u16> = match kind {
            INT8 | UINT8 => data.iter().map(|it| u16::from(*it)).collect(),
            UTF8 => str::from_utf8(data).map_err(|_| "is not UTF-8 text")?.encode_utf16().collect(),
            UINT16 | UTF16 => fixed(data, self.content.big, u16::from_le_bytes)?,
            _ => return Err(format!("has data of type {kind}; expected characters")),
        };
        // How UTF-8 counts is not the same in all programs that write it.
        if units.len() != count && kind != UTF8 {
            return Err(format!("has {} characters; expected {count}", units.len()));
        }
        String::from_utf16(&units).map_err(|_| "is not UTF-16 text".to_owned())
    }
}

/// The numbers of a variable of real numbers.
fn numbers_in(mut matrix: Matrix) -> Result<Vec<f64>, String> {
    if !NUMBERS.contains(&matrix.class) || matrix.complex {
        return Err(format!("is of class {}; expected real numbers", matrix.class));
    }
    let count = matrix.count()?;
    let (kind, data) = matrix.content.next()?;
    let big = matrix.content.big;
    let numbers = match kind {
        INT8 => data.iter().map(|it| f64::from(*it as i8)).collect(),
        UINT8 => data.iter().map(|it| f64::from(*it)).collect(),
        INT16 => fixed(data, big, |it| f64::from(i16::from_le_bytes(it)))?,
        UINT16 => fixed(data, big, |it| f64::from(u16::from_le_bytes(it)))?,
        INT32 => fixed(data, big, |it| f64::from(i32::from_le_bytes(it)))?,
        UINT32 => fixed(data, big, |it| f64::from(u32::from_le_bytes(it)))?,
        SINGLE => fixed(data, big, |it| f64::from(f32::from_le_bytes(it)))?,
        DOUBLE => fixed(data, big, f64::from_le_bytes)?,
        // Other classes are stored in fewer bytes where that is possible, never in integers of eight.
        INT64 if matrix.class == LONG => fixed(data, big, |it| i64::from_le_bytes(it) as f64)?,
        UINT64 if matrix.class == UNSIGNED_LONG => fixed(data, big, |it| u64::from_le_bytes(it) as f64)?,
        _ => return Err(format!("has data of type {kind}; expected numbers")),
    };
    if numbers.len() == count { Ok(numbers) } else { Err(format!("has {} numbers; expected {count}", numbers.len())) }
}

/// The texts of a cell array.
fn texts_in(mut matrix: Matrix) -> Result<Vec<String>, String> {
    if matrix.class != CELL {
        return Err(format!("is of class {}; expected a cell array", matrix.class));
    }
    let count = matrix.count()?;
    let mut texts = Vec::new();
    while texts.len() < count {
        let (_, data) = matrix.content.of(&[MATRIX])?;
        let cell = Matrix::of(matrix.content.with(data)).and_then(Matrix::text);
        texts.push(cell.map_err(|what| format!("has the cell {}, which {what}", texts.len() + 1))?);
    }
    if matrix.content.rest.is_empty() { Ok(texts) } else { Err(format!("has more cells than {count}")) }
}

/// Numbers of `N` bytes each.
fn fixed<const N: usize, T>(data: &[u8], big: bool, read: impl Fn([u8; N]) -> T) -> Result<Vec<T>, String> {
    let (numbers, rest) = data.as_chunks::<N>();
    if !rest.is_empty() {
        return Err(format!("has {} bytes of numbers of {N} bytes each", data.len()));
    }
    let number = |bytes: &[u8; N]| {
        let mut bytes = *bytes;
        if big {
            bytes.reverse();
        }
        read(bytes)
    };
    Ok(numbers.iter().map(number).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A committed file of the readers of data sets.
    fn fixture(file: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../stages/ingest/tests/fixtures");
        evoq_artifacts::read_file(&folder.join(file)).unwrap()
    }

    /// What scipy found in it.
    fn expected(file: &str) -> serde_json::Value {
        serde_json::from_slice::<serde_json::Value>(&fixture("expected.json")).unwrap()[file].clone()
    }

    const NAMES: &str = "AllImages_release";
    const MOS: &str = "AllMOS_release";

    #[test]
    fn names_and_numbers_are_what_scipy_finds_compressed_or_not() {
        for folder in ["livec", "livec/Data"] {
            let file = format!("{folder}/{NAMES}.mat");
            assert_eq!(serde_json::json!(texts(&fixture(&file), NAMES).unwrap()), expected(&file));
            let file = format!("{folder}/{MOS}.mat");
            assert_eq!(serde_json::json!(numbers(&fixture(&file), MOS).unwrap()), expected(&file));
        }
    }

    #[test]
    fn a_variable_of_another_name_or_kind_is_refused_by_name() {
        let (names, mos) = (fixture("livec/AllImages_release.mat"), fixture("livec/Data/AllMOS_release.mat"));
        assert!(
            numbers(&names, MOS)
                .unwrap_err()
                .contains("no variable `AllMOS_release` in the file (date, AllImages_release)")
        );
        assert!(numbers(&names, NAMES).unwrap_err().contains("expected real numbers"));
        assert!(texts(&mos, MOS).unwrap_err().contains("expected a cell array"));
        assert!(numbers(&mos, "date").unwrap_err().contains("`date` is of class 4"));
    }

    #[test]
    fn other_files_and_versions_are_refused_with_what_they_are() {
        let mut file = fixture("livec/Data/AllMOS_release.mat");
        assert!(numbers(&file[..100], MOS).unwrap_err().contains("too short"));
        assert!(numbers(&file[..300], MOS).unwrap_err().contains("cut short"));
        file[125] = 2;
        assert!(numbers(&file, MOS).unwrap_err().contains("save it with -v7"));
        file[126] = b'X';
        assert!(numbers(&file, MOS).unwrap_err().contains("not a MATLAB file of version 5"));
    }

    /// An element, padded; the bytes of every number in the order of the file.
    fn part(kind: u32, data: &[u8], big: bool) -> Vec<u8> {
        let word = |it: u32| if big { it.to_be_bytes() } else { it.to_le_bytes() };
        let mut bytes = [word(kind), word(data.len() as u32)].concat();
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    /// A file with a row of numbers that are stored as `kind`.
    fn stored(class: u32, kind: u32, columns: u32, data: &[u8], big: bool) -> Vec<u8> {
        let words = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|it| if big { it.to_be_bytes() } else { it.to_le_bytes() }).collect()
        };
        let parts = [
            part(UINT32, &words(&[class, 0]), big),
            part(INT32, &words(&[1, columns]), big),
            part(INT8, b"x", big),
            part(kind, data, big),
        ];
        let mut file = vec![b' '; 124];
        file.extend(if big { *b"\x01\0MI" } else { *b"\0\x01IM" });
        file.extend(part(MATRIX, &parts.concat(), big));
        file
    }

    #[test]
    fn numbers_of_either_order_of_bytes_and_stored_in_fewer_are_read() {
        for big in [false, true] {
            let of = |it: f64| if big { it.to_be_bytes() } else { it.to_le_bytes() };
            let doubles = [of(1.5), of(-2.0)].concat();
            assert_eq!(numbers(&stored(6, DOUBLE, 2, &doubles, big), "x"), Ok(vec![1.5, -2.0]));
            let shorts = if big { [0x01, 0x02, 0xff, 0xfe] } else { [0x02, 0x01, 0xfe, 0xff] };
            assert_eq!(numbers(&stored(6, INT16, 2, &shorts, big), "x"), Ok(vec![258.0, -2.0]));
        }
    }

    #[test]
    fn doubles_are_never_stored_as_integers_of_eight_bytes() {
        let data = 63.5_f64.to_le_bytes();
        assert!(numbers(&stored(6, UINT64, 1, &data, false), "x").unwrap_err().contains("type 13"));
        assert_eq!(numbers(&stored(15, UINT64, 1, &7_u64.to_le_bytes(), false), "x"), Ok(vec![7.0]));
    }

    #[test]
    fn dimensions_and_data_must_agree() {
        let data = [1.0_f64, 2.0].map(f64::to_le_bytes).concat();
        for columns in [0, 1, 3, u32::MAX] {
            assert!(numbers(&stored(6, DOUBLE, columns, &data, false), "x").unwrap_err().contains("has 2 numbers"));
        }
        assert!(numbers(&stored(6, DOUBLE, 2, &data[..12], false), "x").unwrap_err().contains("12 bytes"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let matrix = [1.5, -2.0, f64::MIN_POSITIVE, 4.0, 5.0, 6.0];
        let written = file(&[("mean", [1, 2], &[0.1, 0.2]), ("covariance", [2, 3], &matrix)]);
        assert_eq!(numbers(&written, "mean"), Ok(vec![0.1, 0.2]));
        assert_eq!(numbers(&written, "covariance"), Ok(matrix.to_vec()));
    }
}

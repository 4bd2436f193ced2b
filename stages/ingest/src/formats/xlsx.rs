//! Sheets of a workbook (xlsx).

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use calamine::{DataRef, Reader, Xlsx};
use zip::ZipArchive;

use super::{Row, Sheet, contained};

/// The most bytes that a workbook may unpack to. SPAQ's has about 2 million.
const UNPACKED: u64 = 1 << 28;

/// The sheet `name`, or the first one, from its header down: the first row in which each of `columns` is a cell. Columns
/// without a header and rows without a cell are left out.
pub(crate) fn sheet(bytes: &[u8], name: Option<&str>, columns: &[&str]) -> Result<Sheet, String> {
    sound(bytes)?;
    // The crate counts places of cells without a check, so that one beyond all bounds panics where the compiler checks.
    let rows = contained(|| rows(bytes, name))?;
    let is_header = |cells: &BTreeMap<u32, String>| columns.iter().all(|it| cells.values().any(|cell| cell == it));
    let mut rows = rows.into_iter().skip_while(|(_, cells)| !is_header(cells));
    let Some((_, header)) = rows.next() else {
        return Err(format!("no row of the sheet has the cells {}; expected them as a header", columns.join(", ")));
    };
    let mut sheet = Sheet::new(header.values());
    for (line, mut cells) in rows {
        let cells: Vec<String> = header.keys().map(|column| cells.remove(column).unwrap_or_default()).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            sheet.rows.push(Row { line: u64::from(line) + 1, cells });
        }
    }
    Ok(sheet)
}

/// The cells of a sheet that hold something, by row and column, 0-based. They are taken one by one: a sheet that claims a
/// million rows and columns costs nothing then.
fn rows(bytes: &[u8], name: Option<&str>) -> Result<BTreeMap<u32, BTreeMap<u32, String>>, String> {
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let sheets = book.sheet_names();
    let found = match name {
        None => sheets.first(),
        Some(name) => sheets.iter().find(|it| *it == name),
    };
    let found = found.cloned().ok_or_else(|| {
        format!("no sheet `{}` in the workbook ({}); expected it", name.unwrap_or_default(), sheets.join(", "))
    })?;
    let mut cells = book.worksheet_cells_reader(&found).map_err(|error| error.to_string())?;
    let mut rows: BTreeMap<u32, BTreeMap<u32, String>> = BTreeMap::new();
    let mut last = None;
    while let Some(cell) = cells.next_cell().map_err(|error| error.to_string())? {
        let (row, column) = cell.get_position();
        if last.is_some_and(|last| last >= (row, column)) {
            return Err(format!(
                "the cell in row {row}, column {column}, 0-based, comes too late; expected cells in their order"
            ));
        }
        last = Some((row, column));
        let text = text(cell.get_value());
        if !text.is_empty() {
            rows.entry(row).or_default().insert(column, text);
        }
    }
    Ok(rows)
}

/// A cell as text: a number's shortest digits, so that nothing is lost.
fn text(cell: &DataRef) -> String {
    match cell {
        DataRef::Int(number) => number.to_string(),
        DataRef::Float(number) => number.to_string(),
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.trim().to_owned(),
        DataRef::SharedString(text) => text.trim().to_owned(),
        DataRef::Bool(truth) => truth.to_string(),
        DataRef::DateTime(day) => day.as_f64().to_string(),
        DataRef::Error(error) => error.to_string(),
        DataRef::Empty => String::new(),
    }
}

/// Reads every file of the archive to its end, because only there its checksum is compared, and a sheet is left off before.
fn sound(bytes: &[u8]) -> Result<(), String> {
    let damaged = |what: &dyn std::fmt::Display| format!("is not a sound xlsx workbook: {what}; fetch the file again");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged(&error))?;
    let mut left = UNPACKED;
    for index in 0..archive.len() {
        let file = archive.by_index(index).map_err(|error| damaged(&error))?;
        let name = file.name().map_err(|error| damaged(&error))?.into_owned();
        let mut content = Vec::new();
        let size = file.take(left).read_to_end(&mut content).map_err(|error| damaged(&format!("{name}: {error}")))?;
        left -= size as u64;
        if left == 0 {
            return Err(damaged(&format!("unpacks to more than {UNPACKED} bytes")));
        }
        // Room is made for as many texts as the list says it has, before one is read.
        if name.ends_with("sharedStrings.xml") && claimed(&content) > content.len() {
            return Err(damaged(&format!("{name} claims more texts than it can hold")));
        }
    }
    Ok(())
}

/// The number of texts that a list of shared texts says it has.
fn claimed(list: &[u8]) -> usize {
    let list = String::from_utf8_lossy(list);
    let digits = |rest: &str| -> String {
        rest.chars().skip_while(|it| !it.is_ascii_digit()).take_while(char::is_ascii_digit).collect()
    };
    let counts = list.split("uniqueCount").skip(1).map(digits);
    counts.map(|digits| digits.parse().unwrap_or(usize::MAX)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::tests::{expected, fixture};

    /// Written by openpyxl, which puts texts into the sheet, and by `XlsxWriter`, which puts them into a list of their own.
    const CSIQ: &str = "csiq/csiq.DMOS.xlsx";
    const SPAQ: &str = "spaq/MOS and Image attribute scores.xlsx";

    /// Cells as the reader of the other make finds them: numbers as numbers, texts as texts.
    fn like(sheet: &Sheet) -> serde_json::Value {
        let cell = |it: &String| it.parse::<f64>().map_or_else(|_| it.as_str().into(), serde_json::Value::from);
        let rows = std::iter::once(&sheet.columns).chain(sheet.rows.iter().map(|it| &it.cells));
        rows.map(|cells| cells.iter().map(cell).collect::<serde_json::Value>()).collect()
    }

    /// The same, of what the other reader found.
    fn floats(value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Array(items) => items.into_iter().map(floats).collect(),
            other => other.as_f64().map_or(other, serde_json::Value::from),
        }
    }

    #[test]
    fn cells_are_what_openpyxl_finds_wherever_the_header_is() {
        let book = sheet(&fixture(CSIQ), Some("all_by_image"), &["image", "dmos"]).unwrap();
        assert_eq!(like(&book), floats(expected(CSIQ)));
        assert_eq!(book.rows[0].line, 5);
        assert_eq!(like(&sheet(&fixture(SPAQ), None, &["MOS"]).unwrap()), floats(expected(SPAQ)));
    }

    #[test]
    fn a_sheet_or_header_that_is_not_there_is_told_with_what_is() {
        let book = fixture(CSIQ);
        assert!(
            sheet(&book, Some("all"), &[])
                .unwrap_err()
                .contains("no sheet `all` in the workbook (z_crit, all_by_image)")
        );
        assert!(
            sheet(&book, Some("z_crit"), &["image"]).unwrap_err().contains("no row of the sheet has the cells image")
        );
        assert!(sheet(b"PK", None, &[]).unwrap_err().contains("not a sound xlsx workbook"));
    }

    /// A workbook with other content in place of a file's.
    fn with(book: &str, name: &str, replace: impl Fn(String) -> String) -> Vec<u8> {
        use std::io::Write;
        let mut old = ZipArchive::new(Cursor::new(fixture(book))).unwrap();
        let mut new = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for index in 0..old.len() {
            let mut file = old.by_index(index).unwrap();
            let mut content = String::new();
            file.read_to_string(&mut content).unwrap();
            let found = file.name().unwrap().into_owned();
            let content = if found == name { replace(content) } else { content };
            new.start_file(found, zip::write::SimpleFileOptions::default()).unwrap();
            new.write_all(content.as_bytes()).unwrap();
        }
        new.finish().unwrap().into_inner()
    }

    #[test]
    fn a_flipped_bit_behind_the_last_row_is_found_although_nobody_reads_on() {
        let mut book = with(CSIQ, "xl/worksheets/sheet2.xml", |content| {
            content.replace("</worksheet>", "<!--here--></worksheet>")
        });
        assert!(sheet(&book, Some("all_by_image"), &["image"]).is_ok());
        // Written as it is, so that the comment can be found.
        let at = book.windows(4).position(|it| it == b"here");
        let last = book.len() / 2;
        book[at.unwrap_or(last)] ^= 1;
        assert!(sheet(&book, Some("all_by_image"), &["image"]).unwrap_err().contains("not a sound xlsx workbook"));
    }

    #[test]
    fn claims_beyond_all_bounds_are_refused() {
        let many = with(SPAQ, "xl/sharedStrings.xml", |content| {
            content.replace("uniqueCount=\"", "uniqueCount=\"99999999999")
        });
        assert!(sheet(&many, None, &["MOS"]).unwrap_err().contains("more texts than it can hold"));
        let far = with(CSIQ, "xl/worksheets/sheet1.xml", |content| content.replace("r=\"D4\"", "r=\"D99999999999\""));
        assert!(sheet(&far, None, &["N"]).is_err());
        let twice = with(CSIQ, "xl/worksheets/sheet1.xml", |content| content.replace("r=\"E4\"", "r=\"D4\""));
        assert!(sheet(&twice, None, &["N"]).unwrap_err().contains("row 3, column 3, 0-based, comes too late"));
    }
}

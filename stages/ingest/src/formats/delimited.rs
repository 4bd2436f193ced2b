//! Text with a row a line: cells divided by commas, tabs or semicolons under a header, or words divided by spaces without one.

use super::{Sheet, without_mark};

/// The rows below a header. What divides the cells is what divides the header: tabs, else semicolons, else commas.
pub(crate) fn with_header(bytes: &[u8]) -> Result<Sheet, String> {
    let mut lines = lines(bytes);
    let (_, first) = lines.next().ok_or("is empty; expected a header")?;
    let first = first.map_err(|what| format!("the first line {what}"))?;
    let divider = ['\t', ';'].into_iter().find(|it| first.contains(*it)).unwrap_or(',');
    let mut sheet = Sheet::new(cells(first, divider).map_err(|what| format!("the first line {what}"))?);
    for (line, text) in lines {
        match text.and_then(|text| cells(text, divider)) {
            Ok(cells) => sheet.push(line, cells),
            Err(what) => sheet.malformed.push((line, what)),
        }
    }
    Ok(sheet)
}

/// The cells of a line, as RFC 4180 has them but for line breaks in a cell: in a file of scores such a break is a quote without
/// its end, and to read on would swallow the rows behind it.
fn cells(line: &str, divider: char) -> Result<Vec<String>, String> {
    let (mut cells, mut rest) = (Vec::new(), line);
    loop {
        let (cell, behind) = if let Some(quoted) = rest.trim_start_matches(' ').strip_prefix('"') {
            quoted_cell(quoted).ok_or("has a quote that does not end in its line")?
        } else {
            let (cell, behind) = rest.split_at(rest.find(divider).unwrap_or(rest.len()));
            if cell.contains('"') {
                return Err("has a quote in the middle of a cell; expected it around the whole".to_owned());
            }
            (cell.to_owned(), behind)
        };
        cells.push(cell.trim().to_owned());
        if behind.is_empty() {
            return Ok(cells);
        }
        rest = behind.strip_prefix(divider).ok_or("has letters behind a quoted cell; expected the next cell")?;
    }
}

/// A cell whose opening quote is gone, and what stands behind its closing one; two quotes are one of the cell's own.
fn quoted_cell(text: &str) -> Option<(String, &str)> {
    let (mut cell, mut rest) = (String::new(), text);
    loop {
        let (part, behind) = rest.split_once('"')?;
        cell.push_str(part);
        match behind.strip_prefix('"') {
            Some(behind) => {
                cell.push('"');
                rest = behind;
            }
            None => return Some((cell, behind.trim_start_matches(' '))),
        }
    }
}

/// Rows of cells without a header, each line divided by `divide`; all have as many cells as the columns.
pub(crate) fn without_header(bytes: &[u8], columns: &[&str], divide: Divide) -> Sheet {
    let mut sheet = Sheet::new(columns);
    for (line, text) in lines(bytes) {
        match text.and_then(divide) {
            Ok(cells) => sheet.push(line, cells),
            Err(what) => sheet.malformed.push((line, what)),
        }
    }
    sheet
}

/// How a line without a header is divided.
pub(crate) type Divide = fn(&str) -> Result<Vec<String>, String>;

/// The words of a line.
#[expect(clippy::unnecessary_wraps, reason = "cells can be malformed, words cannot, and either divides a line")]
pub(crate) fn words(line: &str) -> Result<Vec<String>, String> {
    Ok(line.split_whitespace().map(str::to_owned).collect())
}

/// The cells of a line that commas divide.
pub(crate) fn commas(line: &str) -> Result<Vec<String>, String> {
    cells(line, ',')
}

/// The cells of a line that tabs divide.
pub(crate) fn tabs(line: &str) -> Result<Vec<String>, String> {
    cells(line, '\t')
}

/// The lines that are not blank, with their numbers; or what is wrong with one.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = (u64, Result<&str, String>)> {
    let all = without_mark(bytes).split(|it| *it == b'\n').zip(1..);
    let text =
        |line| str::from_utf8(line).map(|it| it.trim_end_matches('\r')).map_err(|_| "is not UTF-8 text".to_owned());
    all.filter(|(line, _)| !line.trim_ascii().is_empty()).map(move |(line, number)| (number, text(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(sheet: &Sheet) -> Vec<(u64, Vec<&str>)> {
        sheet.rows.iter().map(|row| (row.line, row.cells.iter().map(String::as_str).collect())).collect()
    }

    #[test]
    fn commas_in_quotes_empty_cells_spaces_and_line_ends_are_read() {
        let sheet = with_header(b"\xef\xbb\xbfname, prompt ,mos\r\na.jpg,\"a, \"\"b\"\" c\",1.5\r\n\r\nb.jpg,, 2 \r\n")
            .unwrap();
        assert_eq!(sheet.columns, ["name", "prompt", "mos"]);
        assert_eq!(rows(&sheet), [(2, vec!["a.jpg", "a, \"b\" c", "1.5"]), (4, vec!["b.jpg", "", "2"])]);
        assert!(sheet.malformed.is_empty());
    }

    #[test]
    fn tabs_and_semicolons_divide_where_they_divide_the_header() {
        for divided in ["name\tmos\na, b\t1\n", "name;mos\na, b;1\n"] {
            assert_eq!(rows(&with_header(divided.as_bytes()).unwrap()), [(2, vec!["a, b", "1"])]);
        }
        // A tab is a space, but not one to be left off.
        assert_eq!(rows(&with_header(b"name\tmos\tstd\r\na\t1\t\r\n").unwrap()), [(2, vec!["a", "1", ""])]);
    }

    #[test]
    fn a_quote_without_its_end_is_malformed_and_swallows_nothing() {
        let sheet = with_header(b"name,mos\na,1\nb,\"2\n\"c\"3,4\ne\"e\",6\nd,\"5\" \n").unwrap();
        assert_eq!(rows(&sheet), [(2, vec!["a", "1"]), (6, vec!["d", "5"])]);
        let malformed: Vec<_> = sheet.malformed.iter().map(|(line, what)| (*line, what.contains("quote"))).collect();
        assert_eq!(malformed, [(3, true), (4, true), (5, true)]);
    }

    #[test]
    fn lines_that_are_no_text_or_too_short_are_malformed_by_their_number() {
        let sheet = with_header(b"name,mos\na\nb\xff,1\nc,2\n").unwrap();
        assert_eq!(rows(&sheet), [(4, vec!["c", "2"])]);
        assert_eq!(sheet.malformed.iter().map(|it| it.0).collect::<Vec<_>>(), [2, 3]);
        assert!(with_header(b"").unwrap_err().contains("empty"));
    }

    #[test]
    fn words_are_divided_by_any_space_and_the_last_line_may_lack_its_end() {
        let sheet = without_header(b"1.5  a.bmp\r\n \r\n2\tb.bmp", &["mos", "name"], words);
        assert_eq!(rows(&sheet), [(1, vec!["1.5", "a.bmp"]), (3, vec!["2", "b.bmp"])]);
        let sheet = without_header(b"a.bmp, 15\nb.bmp\n", &["name", "mos"], commas);
        assert_eq!(rows(&sheet), [(1, vec!["a.bmp", "15"])]);
        assert_eq!(sheet.malformed[0].0, 2);
    }
}

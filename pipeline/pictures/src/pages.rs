//! One picture's bytes out of a Parquet part: with one ranged read once the part's footer is known, where a page is a picture.

use std::sync::{Arc, OnceLock};

use evoq_artifacts::{Part, Result};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;

/// The pictures of one part of `images`. The footer and the page index are read when the first one is asked for.
#[derive(Debug)]
pub(crate) struct PartPictures {
    part: Part,
    footer: OnceLock<ParquetMetaData>,
}

impl PartPictures {
    /// The pictures of `part`; nothing is read yet.
    pub(crate) fn new(part: Part) -> Self {
        Self { part, footer: OnceLock::new() }
    }

    /// Where the part is.
    pub(crate) fn uri(&self) -> &str {
        self.part.location().uri()
    }

    /// The bytes of the picture in row `row` of the part; `None` where there are none.
    pub(crate) fn bytes(&self, row: usize) -> Result<Option<Vec<u8>>> {
        self.read(row).map_err(|error| self.part.error(error))
    }

    fn read(&self, row: usize) -> ParquetResult<Option<Vec<u8>>> {
        let footer = if let Some(known) = self.footer.get() {
            known
        } else {
            let read = footer(&self.part)?;
            self.footer.get_or_init(|| read)
        };
        read_row(self.part.clone(), footer, row)
    }
}

/// The part's footer with its page index, where it has one.
fn footer<R: ChunkReader>(part: &R) -> ParquetResult<ParquetMetaData> {
    ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional).parse_and_finish(part)
}

/// `image.bytes` of the row `row` of `part`. The column's reader is asked itself: one that makes Arrow's arrays costs as much
/// again as a small picture's decoding.
fn read_row<R: ChunkReader + 'static>(part: R, footer: &ParquetMetaData, row: usize) -> ParquetResult<Option<Vec<u8>>> {
    let missing = || ParquetError::General(format!("row {row} of column `image.bytes` is not there"));
    let (group, skipped) = group_of(footer, row).ok_or_else(missing)?;
    let rows = footer.row_group(group);
    let column = rows.columns().iter().position(|it| it.column_path().string() == "image.bytes").ok_or_else(missing)?;
    let chunk = rows.column(column);
    let index = footer.offset_index().and_then(|it| it.get(group)?.get(column));
    let pages = index.map(|it| it.page_locations().clone());
    let pages = SerializedPageReader::new(Arc::new(part), chunk, rows.num_rows() as usize, pages)?;
    let reader = get_column_reader(chunk.column_descr_ptr(), Box::new(pages));
    let ColumnReader::ByteArrayColumnReader(mut reader) = reader else { return Err(missing()) };
    reader.skip_records(skipped)?;
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    match reader.read_records(1, Some(&mut levels), None, &mut values)? {
        (1, _, _) => Ok(values.first().map(|it| it.data().to_vec())),
        _ => Err(missing()),
    }
}

/// The row group that has row `row`, and how many of its rows come before it.
fn group_of(footer: &ParquetMetaData, row: usize) -> Option<(usize, usize)> {
    let mut skipped = row;
    for (group, rows) in footer.row_groups().iter().map(|it| it.num_rows() as usize).enumerate() {
        if skipped < rows {
            return Some((group, skipped));
        }
        skipped -= rows;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use evoq_schemas::{Image, Picture, Table};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
    use parquet::file::reader::Length;

    use super::*;
    use crate::pictures::tests::{original, write};

    /// A part in memory that counts what is asked of it.
    #[derive(Clone)]
    struct Counting {
        bytes: Bytes,
        reads: Arc<AtomicUsize>,
        read: Arc<AtomicUsize>,
    }

    impl Length for Counting {
        fn len(&self) -> u64 {
            self.bytes.len() as u64
        }
    }

    impl ChunkReader for Counting {
        type T = <Bytes as ChunkReader>::T;
        fn get_read(&self, _start: u64) -> ParquetResult<Self::T> {
            Err(ParquetError::General("a stream was asked for; expected ranges only".to_owned()))
        }
        fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            self.read.fetch_add(length, Ordering::Relaxed);
            self.bytes.get_bytes(start, length)
        }
    }

    #[test]
    fn a_picture_takes_one_ranged_read_of_its_own_size() {
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<_> = (0..150_u8).map(|i| original(&format!("set/{i}"), vec![i; 3000 + usize::from(i)])).collect();
        let artifact = write(folder.path(), &rows);
        let part = artifact.parts::<evoq_schemas::Image>().unwrap().remove(0);
        let bytes = part.location().get().unwrap();
        let footer = footer(&bytes).unwrap();
        let counting = Counting { bytes, reads: Arc::default(), read: Arc::default() };
        for row in [0, 63, 64, 100, 149] {
            counting.reads.store(0, Ordering::Relaxed);
            counting.read.store(0, Ordering::Relaxed);
            let found = read_row(counting.clone(), &footer, row).unwrap().unwrap();
            assert_eq!(found, vec![row as u8; 3000 + row]);
            assert_eq!(counting.reads.load(Ordering::Relaxed), 1, "row {row}");
            assert!(counting.read.load(Ordering::Relaxed) < found.len() + 200, "row {row}");
        }
    }

    /// A file of `rows` as another program may write it: compressed, with a dictionary, several pictures a page.
    fn of_another_writer(rows: &[Image], version: WriterVersion, has_no_index: bool) -> Bytes {
        let properties = WriterProperties::builder()
            .set_writer_version(version)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(has_no_index)
            .set_max_row_group_row_count(Some(64))
            .set_write_batch_size(7)
            .set_data_page_row_count_limit(14)
            .build();
        let batch = Image::batch(rows);
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap().into()
    }

    #[test]
    fn pictures_come_out_of_a_file_however_its_pages_are_cut() {
        let bytes = |i: u8| match i % 10 {
            0 => None,
            of => Some(vec![of; 100 + usize::from(of)]),
        };
        let row = |i: u8| Image {
            image: (!i.is_multiple_of(7)).then(|| Picture { bytes: bytes(i), path: None }),
            ..original(&format!("set/{i}"), Vec::new())
        };
        let rows: Vec<Image> = (0..150).map(row).collect();
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for has_no_index in [false, true] {
                let file = of_another_writer(&rows, version, has_no_index);
                let footer = footer(&file).unwrap();
                assert_eq!((footer.num_row_groups(), footer.offset_index().is_none()), (3, has_no_index));
                for (at, row) in rows.iter().enumerate() {
                    let expected = row.image.as_ref().and_then(|it| it.bytes.clone());
                    assert_eq!(read_row(file.clone(), &footer, at).unwrap(), expected, "row {at} {version:?}");
                }
                assert!(read_row(file, &footer, 150).is_err());
            }
        }
    }

    #[test]
    fn a_row_behind_the_last_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let artifact = write(folder.path(), &[original("set/a", vec![1; 10])]);
        let pictures = PartPictures::new(artifact.parts::<evoq_schemas::Image>().unwrap().remove(0));
        assert_eq!(pictures.bytes(0).unwrap(), Some(vec![1; 10]));
        assert!(pictures.bytes(1).is_err());
    }
}

//! One picture's bytes out of a Parquet part: with one ranged read once the part's footer is known, where a page is a picture.

use std::sync::OnceLock;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use evoq_artifacts::{Part, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelectionPolicy,
    RowSelector,
};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::ChunkReader;

/// The pictures of one part of `images`. The footer and the page index are read when the first one is asked for.
#[derive(Debug)]
pub(crate) struct PartPictures {
    part: Part,
    footer: OnceLock<ArrowReaderMetadata>,
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
        let known = self.footer.get().cloned().map_or_else(|| footer(&self.part), Ok)?;
        read_row(self.part.clone(), self.footer.get_or_init(|| known).clone(), row)
    }
}

/// The part's footer with its page index, where it has one.
fn footer<R: ChunkReader>(part: &R) -> ParquetResult<ArrowReaderMetadata> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    ArrowReaderMetadata::load(part, options)
}

/// `image.bytes` of the row `row` of `part`.
fn read_row<R: ChunkReader + 'static>(
    part: R,
    footer: ArrowReaderMetadata,
    row: usize,
) -> ParquetResult<Option<Vec<u8>>> {
    let missing = || ParquetError::General(format!("row {row} of column `image.bytes` is not there"));
    let mut skipped = row;
    let mut group = 0;
    for rows in footer.metadata().row_groups().iter().map(|it| it.num_rows() as usize) {
        if skipped < rows {
            break;
        }
        skipped -= rows;
        group += 1;
    }
    if group == footer.metadata().num_row_groups() {
        return Err(missing());
    }
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(part, footer);
    let column = ProjectionMask::columns(builder.parquet_schema(), ["image.bytes"]);
    let selection = RowSelection::from(vec![RowSelector::skip(skipped), RowSelector::select(1)]);
    let mut batches = builder
        .with_projection(column)
        .with_row_groups(vec![group])
        .with_row_selection(selection)
        // The other policy reads all pages of the row group and masks what was not asked for.
        .with_row_selection_policy(RowSelectionPolicy::Selectors)
        .with_batch_size(1)
        .build()?;
    let batch = batches.next().ok_or_else(missing)??;
    let image = batch.columns().first().and_then(|it| it.as_struct_opt()).ok_or_else(missing)?;
    let bytes = image.columns().first().and_then(|it| it.as_binary_opt::<i32>()).ok_or_else(missing)?;
    let is_there = image.len() == 1 && image.is_valid(0) && bytes.is_valid(0);
    Ok(is_there.then(|| bytes.value(0).to_vec()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
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
            let found = read_row(counting.clone(), footer.clone(), row).unwrap().unwrap();
            assert_eq!(found, vec![row as u8; 3000 + row]);
            assert_eq!(counting.reads.load(Ordering::Relaxed), 1, "row {row}");
            assert!(counting.read.load(Ordering::Relaxed) < found.len() + 200, "row {row}");
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

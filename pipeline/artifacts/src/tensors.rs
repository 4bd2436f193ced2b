//! Tensors of f32 as a safetensors file: put from where they lie in memory and read back one at a time, so that no copy of
//! all of them is made.

use bytes::Bytes;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::s3::PIECE;
use crate::{Error, FileEntry, Location, Result};

/// The length of the header stands in this many bytes at the front.
const LENGTH: u64 = 8;
/// The longest header that is believed: a name and a shape take about a hundred bytes.
const LONGEST: u64 = 100 << 20;

/// A tensor in memory, in row-major order.
#[derive(Debug, Clone)]
pub struct TensorView<'a> {
    /// Its name; no two in a file have the same.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub values: &'a [f32],
}

/// A tensor that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedTensor {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, in row-major order.
    pub values: Vec<f32>,
}

/// What stands before the tensors' numbers: padded so that these begin at a multiple of eight.
fn header(tensors: &[TensorView<'_>]) -> Vec<u8> {
    let mut start = 0;
    let infos = tensors.iter().map(|tensor| {
        let end = start + size_of_val(tensor.values);
        let info = TensorInfo { dtype: Dtype::F32, shape: tensor.shape.clone(), data_offsets: (start, end) };
        start = end;
        (tensor.name.clone(), info)
    });
    let metadata = Metadata::new(None, infos.collect()).expect("a tensor has as many numbers as its shape says");
    let mut text = serde_json::to_vec(&metadata).expect("a header is plain data");
    text.resize(text.len().next_multiple_of(LENGTH as usize), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend_from_slice(&text);
    header
}

/// The file of `tensors`: its size and digest, under no name yet.
pub(crate) fn entry(tensors: &[TensorView<'_>]) -> FileEntry {
    let (mut hasher, header) = (blake3::Hasher::new(), header(tensors));
    hasher.update(&header);
    let mut bytes = header.len() as u64;
    for tensor in tensors {
        hasher.update(bytemuck::cast_slice(tensor.values));
        bytes += size_of_val(tensor.values) as u64;
    }
    FileEntry { name: String::new(), bytes, digest: hasher.finalize().to_hex().to_string() }
}

/// Puts the file of `tensors` at `place`, a piece at a time.
pub(crate) fn put(place: &Location, tensors: &[TensorView<'_>]) -> Result<()> {
    let header = header(tensors);
    let sources: Vec<&[u8]> =
        std::iter::once(header.as_slice()).chain(tensors.iter().map(|it| bytemuck::cast_slice(it.values))).collect();
    let mut left = sources.iter().flat_map(|source| source.chunks(PIECE)).peekable();
    let next = || {
        let mut piece = Vec::with_capacity(PIECE);
        while let Some(chunk) = left.next_if(|chunk| piece.len() + chunk.len() <= PIECE) {
            piece.extend_from_slice(chunk);
        }
        Ok(Bytes::from(piece))
    };
    place.put_pieces(next, || Ok(true)).map(drop)
}

/// Reads the file at `place`, which has `bytes` bytes, and gives its tensors to `take`, one at a time in their order.
pub(crate) fn read(place: &Location, bytes: u64, mut take: impl FnMut(OwnedTensor) -> Result<()>) -> Result<()> {
    let corrupt = |what: String| Error::Corrupt { uri: place.uri().to_owned(), what };
    let (start, metadata) = metadata(place, bytes)?;
    let mut infos = Vec::new();
    for name in metadata.offset_keys() {
        let info = metadata.info(&name).filter(|info| info.dtype == Dtype::F32);
        infos.push((name.clone(), info.ok_or_else(|| corrupt(format!("tensor `{name}` is not of f32")))?.clone()));
    }
    let mut waiting = infos.into_iter();
    let mut open: Option<(OwnedTensor, usize)> = None;
    let mut skip = start as usize;
    place.read_all(bytes, |piece| {
        let skipped = skip.min(piece.len());
        skip -= skipped;
        let mut piece = piece.get(skipped..).unwrap_or_default();
        while !piece.is_empty() {
            let Some((mut tensor, filled)) =
                open.take().or_else(|| waiting.next().map(|(name, info)| fresh(name, &info)))
            else {
                return Err(corrupt("goes on after its last tensor".to_owned()));
            };
            let room = bytemuck::cast_slice_mut::<f32, u8>(&mut tensor.values).get_mut(filled..).unwrap_or_default();
            let (now, later) = piece.split_at(room.len().min(piece.len()));
            let is_full = now.len() == room.len();
            room.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
            piece = later;
            if is_full {
                take(tensor)?;
            } else {
                open = Some((tensor, filled + now.len()));
            }
        }
        Ok(())
    })?;
    // Tensors without numbers may stand at the end.
    for (name, info) in waiting {
        take(fresh(name, &info).0)?;
    }
    Ok(())
}

fn fresh(name: String, info: &TensorInfo) -> (OwnedTensor, usize) {
    let values = vec![0.0; info.shape.iter().product()];
    (OwnedTensor { name, shape: info.shape.clone(), values }, 0)
}

/// Where the numbers of the file at `place` begin, and its header.
fn metadata(place: &Location, bytes: u64) -> Result<(u64, Metadata)> {
    let corrupt = |what: String| Error::Corrupt { uri: place.uri().to_owned(), what };
    let length: [u8; LENGTH as usize] = (place.get_range(0..LENGTH.min(bytes))?.as_ref().try_into())
        .map_err(|_| corrupt(format!("is too short: {bytes} bytes")))?;
    let length = u64::from_le_bytes(length);
    let start = length.checked_add(LENGTH).filter(|start| *start <= bytes && length <= LONGEST);
    let start = start.ok_or_else(|| corrupt("states a header that is longer than the file".to_owned()))?;
    let metadata: Metadata = serde_json::from_slice(&place.get_range(LENGTH..start)?)
        .map_err(|error| corrupt(format!("is no safetensors: {error}")))?;
    if start + metadata.data_len() as u64 == bytes {
        Ok((start, metadata))
    } else {
        Err(corrupt("is not as long as its header says".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &tempfile::TempDir) -> Location {
        Location::open(folder.path().to_str().unwrap()).unwrap().join("state.safetensors")
    }

    #[test]
    fn tensors_come_back_bit_for_bit_whatever_the_pieces() {
        let folder = tempfile::tempdir().unwrap();
        // Over several pieces, with an odd length before it.
        let large: Vec<f32> = (0..5_000_003u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761) >> 2)).collect();
        let small = [f32::MIN_POSITIVE / 4.0, -0.0, 1.5];
        let view =
            |name: &str, shape: &[usize], values| TensorView { name: name.to_owned(), shape: shape.to_vec(), values };
        let tensors = [
            view("b", &[3], &small),
            view("none", &[0, 2], &[]),
            view("a", &[5_000_003], &large),
            view("c", &[3, 1], &small),
        ];
        put(&place(&folder), &tensors).unwrap();
        let entry = entry(&tensors);
        assert_eq!(place(&folder).digest(entry.bytes).unwrap().to_hex().as_str(), entry.digest);
        let mut found = Vec::new();
        read(&place(&folder), entry.bytes, |tensor| {
            found.push(tensor);
            Ok(())
        })
        .unwrap();
        assert_eq!(found.len(), 4);
        for (found, there) in found.iter().zip(&tensors) {
            assert_eq!((&found.name, &found.shape), (&there.name, &there.shape));
            assert!(found.values.iter().map(|it| it.to_bits()).eq(there.values.iter().map(|it| it.to_bits())));
        }
    }

    #[test]
    fn what_others_read_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let values = [1.0f32, 2.0, 3.0, 4.0];
        put(&place(&folder), &[TensorView { name: "w".to_owned(), shape: vec![2, 2], values: &values }]).unwrap();
        let bytes = place(&folder).get().unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensor = read.tensor("w").unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F32, [2, 2].as_slice()));
        assert_eq!(tensor.data(), bytemuck::cast_slice::<f32, u8>(&values));
    }

    #[test]
    fn a_damaged_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let values = [1.0f32; 4];
        let tensors = [TensorView { name: "w".to_owned(), shape: vec![4], values: &values }];
        put(&place(&folder), &tensors).unwrap();
        let whole = place(&folder).get().unwrap();
        let long = [whole.as_ref(), &[0; 4]].concat();
        let mut huge = whole.to_vec();
        huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        for (bytes, said) in [(whole[..5].to_vec(), "too short"), (long, "not as long"), (huge, "longer than the file")]
        {
            let (size, bytes) = (bytes.len() as u64, Bytes::from(bytes));
            place(&folder).put(bytes).unwrap();
            let error = read(&place(&folder), size, |_| Ok(())).unwrap_err().to_string();
            assert!(error.contains("state.safetensors") && error.contains(said), "{error}");
        }
    }
}

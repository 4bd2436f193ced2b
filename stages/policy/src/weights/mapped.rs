//! Reading safetensors files by mapping them into memory: the one place where this crate maps files.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use memmap2::{Mmap, MmapOptions};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, SafeTensorError};

use crate::error::{Error, Result};

/// Longest header that is read, as the format's own library has it.
const MAX_HEADER: u64 = 100_000_000;

/// An open weight file whose header was read and whose length was checked against it.
#[derive(Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    file: File,
    /// Where the data start.
    start: u64,
    metadata: Metadata,
}

/// A tensor as its file's header has it.
#[derive(Debug)]
pub(super) struct Stored {
    /// As the file names it.
    pub name: String,
    format: Dtype,
    pub shape: Vec<usize>,
    /// Bytes, counted from where the data start.
    bytes: (usize, usize),
}

impl MappedFile {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let broken = |source| Error::Safetensors { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        if size < 8 {
            return Err(broken(SafeTensorError::HeaderTooSmall));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(io)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER {
            return Err(broken(SafeTensorError::HeaderTooLarge));
        }
        if 8 + length > size {
            return Err(broken(SafeTensorError::InvalidHeaderLength));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|source| broken(SafeTensorError::InvalidHeaderDeserialization(source)))?;
        if 8 + length + metadata.data_len() as u64 != size {
            return Err(broken(SafeTensorError::MetadataIncompleteBuffer));
        }
        Ok(Self { path: path.to_owned(), file, start: 8 + length, metadata })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors, in the order of their data.
    pub fn tensors(&self) -> Vec<Stored> {
        let stored = |name: String| {
            let info = self.metadata.info(&name)?;
            Some(Stored { format: info.dtype, shape: info.shape.clone(), bytes: info.data_offsets, name })
        };
        self.metadata.offset_keys().into_iter().filter_map(stored).collect()
    }

    /// Refuses a tensor that the model has no place for, or one of another shape or in a format that is not read.
    pub fn check(&self, tensor: &Stored, expected: Option<&Vec<usize>>) -> Result<()> {
        let (name, path) = (tensor.name.clone(), self.path.clone());
        let Some(shape) = expected else { return Err(Error::ExtraTensor { name, path }) };
        if &tensor.shape != shape {
            return Err(Error::MisshapedTensor { name, path, found: tensor.shape.clone(), expected: shape.clone() });
        }
        self.format(tensor).map(|_| ())
    }

    fn format(&self, tensor: &Stored) -> Result<DType> {
        match tensor.format {
            Dtype::BF16 => Ok(DType::BF16),
            Dtype::F16 => Ok(DType::F16),
            Dtype::F32 => Ok(DType::F32),
            other => Err(Error::TensorFormat {
                name: tensor.name.clone(),
                path: self.path.clone(),
                found: other.to_string(),
            }),
        }
    }

    /// The numbers of a tensor as f32, row by row. Its bytes are mapped for as long as that takes, and there is no second copy: what
    /// is freed between weights is rarely given back, and would count as long as the process runs.
    pub fn read(&self, tensor: &Stored) -> Result<Vec<f32>> {
        let (map, format) = self.checked(tensor)?;
        match format {
            DType::F32 => Ok(map.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
            DType::BF16 => {
                let value = |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                Ok(map.as_chunks().0.iter().map(value).collect())
            }
            other => {
                let read = Tensor::from_raw_buffer(&map, other, &tensor.shape, &Device::Cpu)?;
                Ok(read.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
            }
        }
    }

    /// Reads a tensor in another number format than it is stored in, or the same: its bytes go from the map to the device,
    /// and are converted there.
    pub fn read_as(&self, tensor: &Stored, dtype: DType, device: &Device) -> Result<Tensor> {
        let (map, format) = self.checked(tensor)?;
        Ok(Tensor::from_raw_buffer(&map, format, &tensor.shape, device)?.to_dtype(dtype)?)
    }

    /// The bytes of a tensor whose values are all finite, and their format.
    fn checked(&self, tensor: &Stored) -> Result<(Mmap, DType)> {
        let (map, format) = (self.map(tensor)?, self.format(tensor)?);
        match broken(&map, format) {
            None => Ok((map, format)),
            Some((at, found)) => {
                Err(Error::BrokenTensor { name: tensor.name.clone(), path: self.path.clone(), at, found })
            }
        }
    }

    fn map(&self, tensor: &Stored) -> Result<Mmap> {
        let (from, to) = tensor.bytes;
        let mut options = MmapOptions::new();
        options.offset(self.start + from as u64).len(to - from);
        #[expect(unsafe_code, reason = "mapped bytes change if another process writes the file")]
        // SAFETY: the map is only read, bit by bit as numbers of which any bits are some, and dropped right after. A
        // checkpoint that another process is writing gives wrong numbers here as it would to any reader; one that is
        // being truncated ends the process.
        let map = unsafe { options.map(&self.file) };
        map.map_err(|source| Error::Io { path: self.path.clone(), source })
    }
}

/// The first value that is infinite or not a number: its position, and what it is.
fn broken(bytes: &[u8], format: DType) -> Option<(usize, f32)> {
    /// Values that a thread looks at in a run, in bytes.
    const RUN: usize = 1 << 20;
    let value = |bytes: &[u8]| match (format, bytes) {
        (DType::BF16, &[a, b]) => f32::from_bits(u32::from(u16::from_le_bytes([a, b])) << 16),
        // All that counts of an F16 is whether its exponent is the highest: infinity, or no number.
        (DType::F16, &[a, b]) if u16::from_le_bytes([a, b]) & 0x7c00 == 0x7c00 => {
            if u16::from_le_bytes([a, b]) & 0x7fff == 0x7c00 { f32::INFINITY } else { f32::NAN }
        }
        (DType::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        _ => 0.0,
    };
    let size = format.size_in_bytes();
    let first = |(run, bytes): (usize, &[u8])| {
        let at = bytes.chunks_exact(size).position(|bytes| !value(bytes).is_finite())?;
        Some((run * RUN / size + at, value(&bytes[at * size..][..size])))
    };
    bytes.par_chunks(RUN).enumerate().find_map_first(first)
}

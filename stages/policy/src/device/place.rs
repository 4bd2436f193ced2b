//! Where a policy answers, and in which number format.

use candle_core::{DType, Device};

use crate::error::{Error, Result};

/// The class of device that a policy answers on. Tables made on one are not byte for byte those of the other, so it
/// counts among a step's parameters ([`Place::parameters`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The CPU, in `f32`.
    #[default]
    Cpu,
    /// The first CUDA device that `CUDA_VISIBLE_DEVICES` leaves visible, in `bf16`.
    Cuda,
}

impl Place {
    /// The number format of weights and activations there.
    pub fn dtype(self) -> DType {
        match self {
            Self::Cpu => DType::F32,
            Self::Cuda => DType::BF16,
        }
    }

    /// What a step's fingerprint holds of the place: names and values.
    pub fn parameters(self) -> [(&'static str, &'static str); 2] {
        let device = match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        };
        [("device", device), ("dtype", self.dtype().as_str())]
    }

    /// The device.
    ///
    /// # Errors
    /// There is no CUDA device, or this program was built without CUDA.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => open_cuda(),
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn open_cuda() -> Result<Device> {
    Err(Error::NoDevice { problem: "this program was built without the `cuda` feature".to_owned() })
}

#[cfg(feature = "cuda")]
fn open_cuda() -> Result<Device> {
    let none = |error: candle_core::Error| {
        let message = error.to_string();
        Error::NoDevice { problem: message.lines().next().unwrap_or_default().to_owned() }
    };
    // One stream, whichever threads give it work: each thread's own would not wait for the others'.
    let device = Device::new_cuda_with_stream(0).map_err(none)?;
    let cuda = device.as_cuda_device().map_err(none)?;
    #[expect(unsafe_code, reason = "the library leaves it to its user to see that there is one stream")]
    // SAFETY: all work on this device goes through the one stream made above, in which everything is in order.
    unsafe {
        cuda.disable_event_tracking();
    }
    keep_memory(cuda).map_err(|error| Error::NoDevice { problem: format!("its memory pool: {error}") })?;
    Ok(device)
}

/// Bytes of the device's memory that are in use, by whichever program; none where the device has no memory of its own. With
/// [`Place::Cuda`]'s pool, which keeps what is freed, a program's part is the most that it has used.
pub fn memory_in_use(device: &Device) -> Option<u64> {
    #[cfg(feature = "cuda")]
    {
        let (free, total) = device.as_cuda_device().ok()?.cuda_stream().context().mem_get_info().ok()?;
        Some((total - free) as u64)
    }
    #[cfg(not(feature = "cuda"))]
    {
        let _ = device;
        None
    }
}

/// Lets the driver's memory pool keep what is freed. Otherwise it gives all unused memory back whenever the host waits for
/// the device, which is once a token.
#[cfg(feature = "cuda")]
fn keep_memory(
    device: &candle_core::CudaDevice,
) -> std::result::Result<(), candle_core::cuda_backend::cudarc::driver::DriverError> {
    use candle_core::cuda_backend::cudarc::driver::{result, sys};
    let mut threshold = u64::MAX;
    #[expect(unsafe_code, reason = "the library has no safe call for it")]
    // SAFETY: the device is open, so its handle is valid and it has a default pool; the attribute takes a u64, which
    // is read before the call returns.
    unsafe {
        let pool = result::device::get_default_mem_pool(device.cuda_stream().context().cu_device())?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast()).result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_format_follows_from_the_device() {
        assert_eq!(Place::Cpu.parameters(), [("device", "cpu"), ("dtype", "f32")]);
        assert_eq!(Place::Cuda.parameters(), [("device", "cuda"), ("dtype", "bf16")]);
    }

    #[test]
    fn a_machine_without_a_device_says_so_in_one_line() {
        // With the feature and a device there is nothing to see.
        let Err(error) = Place::Cuda.open() else { return };
        let message = error.to_string();
        assert!(message.starts_with("no CUDA device") && message.lines().count() == 1, "{message}");
    }
}

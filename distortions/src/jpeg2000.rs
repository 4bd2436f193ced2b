//! What JPEG 2000 coding does to pixels: `OpenJPEG`, through its C interface, the one place with pointers here.

#![expect(unsafe_code, reason = "the interface is C's; the pointers stay within this file")]

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::slice;

use image::RgbImage;
use openjpeg_sys as opj;

/// The picture after coding down to a peak signal-to-noise ratio in decibels, and decoding.
///
/// As Pillow has it coded: one layer and one tile, reversible 5/3 wavelets in six resolutions (a picture with a side
/// under 32 pixels would need fewer), and no colour transform.
///
/// # Panics
/// Where memory runs out: the library can fail for nothing else here, and any allocation of ours would end the program too.
pub(crate) fn coded(picture: &RgbImage, decibels: f32) -> RgbImage {
    let code = encoded(picture, decibels).expect("a picture in memory can be coded");
    decoded(code, picture.width(), picture.height()).expect("what was coded just now can be decoded")
}

/// A code stream, or nothing when the coder gives up.
fn encoded(picture: &RgbImage, decibels: f32) -> Option<Memory> {
    let planes = Image::new(picture)?;
    let codec = Codec::new(Direction::Encode)?;
    let mut memory = Memory::default();
    let stream = Stream::new(&mut memory, Direction::Encode)?;
    // SAFETY: all handles are live; the parameters are filled by the library before they are read.
    let done = unsafe {
        let mut parameters = MaybeUninit::uninit();
        opj::opj_set_default_encoder_parameters(parameters.as_mut_ptr());
        let mut parameters = parameters.assume_init();
        parameters.tcp_numlayers = 1;
        parameters.tcp_distoratio[0] = decibels;
        parameters.cp_fixed_quality = 1;
        let (codec, stream) = (codec.0.as_ptr(), stream.0.as_ptr());
        opj::opj_setup_encoder(codec, &raw mut parameters, planes.0.as_ptr()) != 0
            && opj::opj_start_compress(codec, planes.0.as_ptr(), stream) != 0
            && opj::opj_encode(codec, stream) != 0
            && opj::opj_end_compress(codec, stream) != 0
    };
    drop(stream);
    done.then_some(memory)
}

/// The picture of a code stream, or nothing when it is not one of this size.
fn decoded(mut memory: Memory, width: u32, height: u32) -> Option<RgbImage> {
    let codec = Codec::new(Direction::Decode)?;
    let length = memory.bytes.len() as u64;
    let stream = Stream::new(&mut memory, Direction::Decode)?;
    // SAFETY: all handles are live; the image that the header makes is owned from then on.
    let planes = unsafe {
        opj::opj_stream_set_user_data_length(stream.0.as_ptr(), length);
        let mut parameters = MaybeUninit::uninit();
        opj::opj_set_default_decoder_parameters(parameters.as_mut_ptr());
        let mut parameters = parameters.assume_init();
        let (codec, stream) = (codec.0.as_ptr(), stream.0.as_ptr());
        let mut image = ptr::null_mut();
        let read = opj::opj_setup_decoder(codec, &raw mut parameters) != 0
            && opj::opj_read_header(stream, codec, &raw mut image) != 0;
        let planes = Image(NonNull::new(image)?);
        (read && opj::opj_decode(codec, stream, image) != 0 && opj::opj_end_decompress(codec, stream) != 0)
            .then_some(planes)?
    };
    let [red, green, blue] = planes.samples(width, height)?;
    let mut picture = RgbImage::new(width, height);
    for (pixel, ((red, green), blue)) in picture.as_chunks_mut::<3>().0.iter_mut().zip(red.iter().zip(green).zip(blue))
    {
        *pixel = [red, green, blue].map(|&sample| sample.clamp(0, 255) as u8);
    }
    Some(picture)
}

/// Which way a codec and its stream go.
#[derive(Clone, Copy)]
enum Direction {
    Encode,
    Decode,
}

/// A codec that is freed when dropped.
struct Codec(NonNull<opj::opj_codec_t>);

impl Codec {
    fn new(direction: Direction) -> Option<Self> {
        // SAFETY: these take no pointers.
        let codec = unsafe {
            match direction {
                Direction::Encode => opj::opj_create_compress(opj::CODEC_FORMAT::OPJ_CODEC_J2K),
                Direction::Decode => opj::opj_create_decompress(opj::CODEC_FORMAT::OPJ_CODEC_J2K),
            }
        };
        NonNull::new(codec).map(Self)
    }
}

impl Drop for Codec {
    fn drop(&mut self) {
        // SAFETY: created by the library and freed once.
        unsafe { opj::opj_destroy_codec(self.0.as_ptr()) }
    }
}

/// Three planes of samples that are freed when dropped.
struct Image(NonNull<opj::opj_image_t>);

impl Image {
    /// The planes of a picture.
    fn new(picture: &RgbImage) -> Option<Self> {
        let (w, h) = picture.dimensions();
        let plane = opj::opj_image_cmptparm_t { dx: 1, dy: 1, w, h, x0: 0, y0: 0, prec: 8, bpp: 8, sgnd: 0 };
        // SAFETY: there are three parameters, and the library copies them.
        let image = unsafe { opj::opj_image_create(3, [plane; 3].as_mut_ptr(), opj::COLOR_SPACE::OPJ_CLRSPC_SRGB) };
        let mut image = Self(NonNull::new(image)?);
        // SAFETY: just made, and not shared.
        let header = unsafe { image.0.as_mut() };
        (header.x1, header.y1) = (w, h);
        // SAFETY: the library made three planes.
        let planes = unsafe { slice::from_raw_parts_mut(header.comps, 3) };
        for (channel, plane) in planes.iter_mut().enumerate() {
            let data = NonNull::new(plane.data)?;
            // SAFETY: of w times h samples each, zeroed.
            let samples = unsafe { slice::from_raw_parts_mut(data.as_ptr(), w as usize * h as usize) };
            for (sample, pixel) in samples.iter_mut().zip(picture.as_raw().as_chunks::<3>().0) {
                *sample = i32::from(pixel[channel]);
            }
        }
        Some(image)
    }

    /// The samples of the planes, if they are three of this size.
    fn samples(&self, width: u32, height: u32) -> Option<[&[i32]; 3]> {
        // SAFETY: the image and its planes live as long as this; their number and sizes are the library's.
        unsafe {
            let header = self.0.as_ref();
            let planes: &[opj::opj_image_comp_t; 3] =
                slice::from_raw_parts(header.comps, header.numcomps as usize).try_into().ok()?;
            if planes.iter().any(|plane| (plane.w, plane.h) != (width, height) || plane.data.is_null()) {
                return None;
            }
            Some(planes.each_ref().map(|plane| slice::from_raw_parts(plane.data, width as usize * height as usize)))
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: made by the library and freed once, with its planes.
        unsafe { opj::opj_image_destroy(self.0.as_ptr()) }
    }
}

/// A code stream in memory, and how far it is read.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    at: usize,
}

/// A stream over a [`Memory`], which it must not outlive; freed when dropped.
struct Stream(NonNull<opj::opj_stream_t>);

impl Stream {
    fn new(memory: &mut Memory, direction: Direction) -> Option<Self> {
        let user_data = ptr::from_mut(memory).cast::<c_void>();
        // SAFETY: the functions take the memory that is handed over with them.
        unsafe {
            let stream = NonNull::new(opj::opj_stream_default_create(matches!(direction, Direction::Decode).into()))?;
            opj::opj_stream_set_user_data(stream.as_ptr(), user_data, None);
            match direction {
                Direction::Encode => opj::opj_stream_set_write_function(stream.as_ptr(), Some(write)),
                Direction::Decode => opj::opj_stream_set_read_function(stream.as_ptr(), Some(read)),
            }
            Some(Self(stream))
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created by the library and freed once.
        unsafe { opj::opj_stream_destroy(self.0.as_ptr()) }
    }
}

/// Appends `length` bytes to a [`Memory`].
unsafe extern "C" fn write(bytes: *mut c_void, length: usize, memory: *mut c_void) -> usize {
    // SAFETY: the library hands over `length` bytes and the memory of `Stream::new`.
    unsafe {
        let memory = &mut *memory.cast::<Memory>();
        memory.bytes.extend_from_slice(slice::from_raw_parts(bytes.cast(), length));
    }
    length
}

/// Takes up to `length` bytes from a [`Memory`]; at its end, the library's sign for it.
unsafe extern "C" fn read(bytes: *mut c_void, length: usize, memory: *mut c_void) -> usize {
    // SAFETY: the library has room for `length` bytes, and the memory is that of `Stream::new`.
    unsafe {
        let memory = &mut *memory.cast::<Memory>();
        let rest = &memory.bytes[memory.at..];
        let length = length.min(rest.len());
        ptr::copy_nonoverlapping(rest.as_ptr(), bytes.cast(), length);
        memory.at += length;
        if length == 0 { usize::MAX } else { length }
    }
}

//! Kernel texts to machine code, by NVRTC, at run time.
//!
//! For the device's exact architecture, so that the driver has nothing left to translate. A device
//! newer than the compiler gets the newest portable code that the compiler can make.

use std::ffi::{CStr, CString};

use cudarc::nvrtc::{result, sys};

use super::error::{CudaError, Result};
use super::library;
use super::symbols::NVRTC;

/// The oldest architecture of CUDA 13: major and minor compute capability.
pub const OLDEST: (i32, i32) = (7, 5);

/// Machine code, and what the compiler said about it.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// A cubin; for a device newer than the compiler PTX, with a zero at its end.
    pub code: Vec<u8>,
    /// Warnings; registers and spills, if they were asked for.
    pub log: String,
}

/// Whether the compiler's library is there: to be asked before the rest, unless [`super::probe`] has.
#[must_use]
pub fn is_available() -> bool {
    library::preload();
    NVRTC.check().is_ok()
}

/// The compiler's version, major and minor.
///
/// # Errors
/// [`CudaError::Call`] when NVRTC does not answer.
pub fn version() -> Result<(i32, i32)> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both integers outlive the call, which writes them. That the library is there has been
    // asked by the probe, here and everywhere below.
    unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) }
        .result()
        .map_err(code("nvrtcVersion"))?;
    Ok((major, minor))
}

/// Compiles a text for a compute capability. `verbose` asks for registers and spills in the log.
///
/// # Errors
/// [`CudaError::Compile`] with the compiler's log.
pub fn compile(
    name: &str,
    source: &str,
    capability: (i32, i32),
    verbose: bool,
) -> Result<Compiled> {
    let (architecture, exact) = architecture(capability)?;
    let mut options = vec![architecture, "--std=c++17".to_owned()];
    if verbose {
        options.push("--ptxas-options=-v".to_owned());
    }
    let program = Unit::new(name, source)?;
    // SAFETY: the program is alive until the end of this function.
    let done = unsafe { result::compile_program(program.0, &options) };
    // SAFETY: as above.
    let log =
        unsafe { result::get_program_log(program.0) }.map(|log| text(&log)).unwrap_or_default();
    if done.is_err() {
        return Err(CudaError::Compile { program: name.to_owned(), log });
    }
    let code = if exact { program.cubin()? } else { program.ptx()? };
    Ok(Compiled { code, log })
}

/// The compiler's option for a capability, and whether it names it exactly.
fn architecture(capability: (i32, i32)) -> Result<(String, bool)> {
    let wanted = capability.0 * 10 + capability.1;
    let known = architectures()?;
    if known.contains(&wanted) {
        return Ok((format!("--gpu-architecture=sm_{wanted}"), true));
    }
    match known.iter().filter(|&&have| have < wanted).max() {
        Some(nearest) => Ok((format!("--gpu-architecture=compute_{nearest}"), false)),
        None => Err(CudaError::Compile {
            program: format!("anything for compute capability {}.{}", capability.0, capability.1),
            log: format!("the compiler's oldest is {}.{}", OLDEST.0, OLDEST.1),
        }),
    }
}

/// The architectures that the compiler knows: 80 for 8.0.
fn architectures() -> Result<Vec<i32>> {
    let mut count = 0;
    // SAFETY: the integer outlives the call, which writes it.
    unsafe { sys::nvrtcGetNumSupportedArchs(&raw mut count) }
        .result()
        .map_err(code("nvrtcGetNumSupportedArchs"))?;
    let mut all = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: as many integers are written as the call before has counted.
    unsafe { sys::nvrtcGetSupportedArchs(all.as_mut_ptr()) }
        .result()
        .map_err(code("nvrtcGetSupportedArchs"))?;
    Ok(all)
}

/// One compilation, destroyed when dropped.
struct Unit(sys::nvrtcProgram);

impl Unit {
    fn new(name: &str, source: &str) -> Result<Self> {
        let nul =
            |_| CudaError::Compile { program: name.to_owned(), log: "it has a zero byte".into() };
        let source = CString::new(source).map_err(nul)?;
        let file = CString::new(name).map_err(nul)?;
        let program =
            result::create_program(&source, Some(&file)).map_err(code("nvrtcCreateProgram"))?;
        Ok(Self(program))
    }

    fn cubin(&self) -> Result<Vec<u8>> {
        let mut size = 0;
        // SAFETY: the program has been compiled; the integer outlives the call, which writes it.
        unsafe { sys::nvrtcGetCUBINSize(self.0, &raw mut size) }
            .result()
            .map_err(code("nvrtcGetCUBINSize"))?;
        let mut cubin = vec![0_u8; size];
        // SAFETY: as many bytes are written as the call before has counted.
        unsafe { sys::nvrtcGetCUBIN(self.0, cubin.as_mut_ptr().cast()) }
            .result()
            .map_err(code("nvrtcGetCUBIN"))?;
        Ok(cubin)
    }

    fn ptx(&self) -> Result<Vec<u8>> {
        // SAFETY: the program has been compiled.
        let ptx = unsafe { result::get_ptx(self.0) }.map_err(code("nvrtcGetPTX"))?;
        Ok(ptx.iter().map(|&c| c as u8).collect())
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed only here. A refusal would leak it, no more.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn code(call: &'static str) -> impl Fn(result::NvrtcError) -> CudaError {
    move |error| CudaError::Call { call, code: format!("{:?}", error.0) }
}

/// A C string's text, up to its zero.
fn text(characters: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = characters.iter().map(|&c| c as u8).collect();
    CStr::from_bytes_until_nul(&bytes)
        .map(|text| text.to_string_lossy().into_owned())
        .unwrap_or_default()
}

//! Programs on their way to the device: compiled or found in the cache, loaded once, their kernels
//! kept by name together with the parameters that their text declares.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaContext, CudaFunction, CudaModule};
use cudarc::nvrtc::Ptx;

use super::cache::Cache;
use super::compile::{compile, version};
use super::error::{CudaError, Result, driver};
use super::program::{Key, Program};

/// What a kernel's parameter is, by its declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any `T*`.
    Pointer,
    /// `int`
    Int,
    /// `long long`
    Long,
    /// `unsigned long long`
    Word,
    /// `double`
    Double,
    /// `Dims`
    Dims,
    /// `Image`
    Image,
}

/// A kernel that can be launched.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) function: CudaFunction,
    pub(super) parameters: Vec<Kind>,
}

/// The programs of one device.
pub(super) struct Modules {
    context: Arc<CudaContext>,
    capability: (i32, i32),
    cache: Cache,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    kernels: HashMap<(Key, &'static str), Arc<Kernel>>,
    modules: HashMap<Key, Arc<CudaModule>>,
    programs: Vec<(Program, &'static str)>,
}

impl Modules {
    pub(super) fn new(context: Arc<CudaContext>, capability: (i32, i32), cache: Cache) -> Self {
        Self { context, capability, cache, loaded: Mutex::default() }
    }

    /// A kernel of a program, compiled and loaded if this is its first use.
    pub(super) fn kernel(&self, program: &Program, name: &'static str) -> Result<Arc<Kernel>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let key = program.key();
        if let Some(kernel) = loaded.kernels.get(&(key, name)) {
            return Ok(Arc::clone(kernel));
        }
        let source = program.source();
        let Some(parameters) = parameters(&source, name) else {
            let log = format!("it has no kernel `{name}` whose parameters can be read");
            return Err(CudaError::Compile { program: program.name(), log });
        };
        let module = match loaded.modules.get(&key) {
            Some(module) => Arc::clone(module),
            None => {
                let module = self.load(program, &source)?;
                loaded.modules.insert(key, Arc::clone(&module));
                module
            }
        };
        let function = module.load_function(name).map_err(driver("cuModuleGetFunction"))?;
        let kernel = Arc::new(Kernel { function, parameters });
        loaded.kernels.insert((key, name), Arc::clone(&kernel));
        loaded.programs.push((*program, name));
        Ok(kernel)
    }

    /// All programs that have been used, with their kernels.
    pub(super) fn programs(&self) -> Vec<(Program, &'static str)> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).programs.clone()
    }

    fn load(&self, program: &Program, source: &str) -> Result<Arc<CudaModule>> {
        let (name, (major, minor), (cc, sub)) = (program.name(), version()?, self.capability);
        let key = format!("{name} NVRTC {major}.{minor} sm_{cc}{sub}\n{source}");
        let load = |code: &[u8]| self.context.load_module(Ptx::from_binary(code.to_vec()));
        if let Some(code) = self.cache.get(&key) {
            // What the driver refuses is compiled once more: it may have been kept by another one.
            match load(&code) {
                Ok(module) => return Ok(module),
                Err(_) => self.cache.remove(&key),
            }
        }
        let compiled = compile(&name, source, self.capability, false)?;
        let module = load(&compiled.code).map_err(driver("cuModuleLoadData"))?;
        self.cache.put(&key, &compiled.code);
        Ok(module)
    }
}

impl fmt::Debug for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> =
            self.programs().iter().map(|(p, k)| format!("{k} of {}", p.name())).collect();
        f.debug_struct("Modules").field("kernels", &names).finish_non_exhaustive()
    }
}

/// The kinds of a kernel's parameters, read from its text. `None` if there is no such kernel.
fn parameters(source: &str, name: &str) -> Option<Vec<Kind>> {
    let head = format!("extern \"C\" __global__ void {name}(");
    let list = source.split(&head).nth(1)?.split(')').next()?;
    list.split(',').map(kind).collect()
}

fn kind(declaration: &str) -> Option<Kind> {
    let words: Vec<&str> = declaration.split_whitespace().collect();
    if declaration.contains('*') {
        return Some(Kind::Pointer);
    }
    match words.as_slice() {
        ["int", _] => Some(Kind::Int),
        ["long", "long", _] => Some(Kind::Long),
        ["unsigned", "long", "long", _] => Some(Kind::Word),
        ["double", _] => Some(Kind::Double),
        ["Dims", _] => Some(Kind::Dims),
        ["Image", _] => Some(Kind::Image),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_from_the_text_and_unknown_ones_refused() {
        let text = "extern \"C\" __global__ void f(Dims d, long long n,\n    const T* x, T* y, double c) {";
        let kinds = [Kind::Dims, Kind::Long, Kind::Pointer, Kind::Pointer, Kind::Double];
        assert_eq!(parameters(text, "f").as_deref(), Some(&kinds[..]));
        assert_eq!(parameters(text, "g"), None);
        assert_eq!(parameters("extern \"C\" __global__ void f(short n) {", "f"), None);
    }
}

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
use super::slice::Scalar;

/// What a pointer points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Numbers of a type.
    Numbers(Scalar),
    /// The words of numbers of 16 bits, `unsigned short`.
    Halves,
    /// What only the text knows.
    Anything,
}

/// What a kernel's parameter is, by its declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any `T*`.
    Pointer(To),
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

impl Kind {
    /// Whether a parameter of this kind may be given an argument of another.
    #[must_use]
    pub fn takes(self, argument: Self) -> bool {
        match (self, argument) {
            (Self::Pointer(to), Self::Pointer(from)) => to.takes(from),
            _ => self == argument,
        }
    }
}

impl To {
    fn takes(self, argument: Self) -> bool {
        match (self, argument) {
            // An address without a type is the caller's word for it.
            (_, Self::Anything) | (Self::Anything, _) => true,
            (Self::Halves, Self::Numbers(scalar)) => matches!(scalar, Scalar::F16 | Scalar::BF16),
            _ => self == argument,
        }
    }
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
        program.check()?;
        let source = program.source();
        let Some(parameters) = parameters(program, &source, name) else {
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
fn parameters(program: &Program, source: &str, name: &str) -> Option<Vec<Kind>> {
    let head = format!("extern \"C\" __global__ void {name}(");
    let list = source.split(&head).nth(1)?.split(')').next()?;
    list.split(',').map(|declaration| kind(program, declaration)).collect()
}

fn kind(program: &Program, declaration: &str) -> Option<Kind> {
    if let Some((to, _)) = declaration.split_once('*') {
        let words: Vec<&str> = to.split_whitespace().filter(|&word| word != "const").collect();
        let to = match words.join(" ").as_str() {
            "unsigned short" => To::Halves,
            name => program.element(name).map_or(To::Anything, To::Numbers),
        };
        return Some(Kind::Pointer(to));
    }
    let words: Vec<&str> = declaration.split_whitespace().collect();
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
    use crate::cuda::program::Text;

    #[test]
    fn a_pointer_takes_numbers_of_its_own_type_alone() {
        let to = |scalar| Kind::Pointer(To::Numbers(scalar));
        assert!(to(Scalar::F32).takes(to(Scalar::F32)) && !to(Scalar::F32).takes(to(Scalar::F64)));
        assert!(Kind::Pointer(To::Halves).takes(to(Scalar::BF16)));
        assert!(!Kind::Pointer(To::Halves).takes(to(Scalar::F32)));
        assert!(to(Scalar::I64).takes(Kind::Pointer(To::Anything)));
        assert!(!Kind::Long.takes(to(Scalar::I64)));
    }

    #[test]
    fn parameters_are_read_from_the_text_and_unknown_ones_refused() {
        let program = Program::new(Text { name: "toy", source: "" }, Scalar::F16);
        let program = program.writing(Scalar::F64);
        let parameters = |text, name| parameters(&program, text, name);
        let text = "extern \"C\" __global__ void f(Dims d, long long n,\n    const S* x, T *y, double c) {";
        let [s, t] = [Scalar::F16, Scalar::F32].map(|scalar| Kind::Pointer(To::Numbers(scalar)));
        let kinds = [Kind::Dims, Kind::Long, s, t, Kind::Double];
        assert_eq!(parameters(text, "f").as_deref(), Some(&kinds[..]));
        assert_eq!(parameters(text, "g"), None);
        assert_eq!(parameters("extern \"C\" __global__ void f(short n) {", "f"), None);
        let text = "extern \"C\" __global__ void f(U* a, const long long* b, unsigned short* c, char* d) {";
        let [a, b] = [Scalar::F64, Scalar::I64].map(|scalar| Kind::Pointer(To::Numbers(scalar)));
        let kinds = [a, b, Kind::Pointer(To::Halves), Kind::Pointer(To::Anything)];
        assert_eq!(parameters(text, "f").as_deref(), Some(&kinds[..]));
    }
}

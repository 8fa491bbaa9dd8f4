//! Compiles the C++ between Rust and FAISS, where the feature `faiss` asks for it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "faiss")]
    compile_shim();
}

#[cfg(feature = "faiss")]
fn compile_shim() {
    let shim = "src/faiss/shim.cpp";
    println!("cargo:rerun-if-changed={shim}");
    // What the build of faiss-sys left: CMake's install folder.
    let faiss = std::env::var("DEP_FAISS_C_ROOT").expect("faiss-sys says where FAISS is");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(format!("{faiss}/include"))
        // Of FAISS' own headers.
        .flag_if_supported("-Wno-unused-parameter")
        .file(shim)
        .compile("xr_faiss");
}

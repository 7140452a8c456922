//! How the program of the image is linked.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, wanted: &str| env::var(name).is_ok_and(|value| value.split(',').any(|word| word == wanted));
    // The table of what is adjusted at the start takes a twentieth of the program, and next to nothing when it is packed.
    // A dynamic program would ask for a C library that unpacks it; a static one brings its own (glibc 2.36 and newer).
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_FEATURE", "crt-static") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        // Functions of the same instructions are one. Rust's own linker can do that, which is the default there alone.
        if is("CARGO_CFG_TARGET_ARCH", "x86_64") {
            println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
        }
    }
}

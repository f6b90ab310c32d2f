//! A guest in Rust for WASI: it reads its environment by the standard library, and its
//! secret by the host's call.
#![allow(non_snake_case)]

use std::env::var;

#[link(wasm_import_module = "taubyte/sdk")]
extern "C" {
    fn eventHttpWrite(event: u32, buf: *const u8, size: u32, n: *mut u32) -> u32;
    fn secretValueSize(name: *const u8, len: u32, size: *mut u32) -> u32;
    fn secretValue(name: *const u8, len: u32, buf: *mut u8) -> u32;
}

fn secret(name: &str) -> String {
    let mut n = 0;
    unsafe {
        if secretValueSize(name.as_ptr(), name.len() as u32, &mut n) != 0 {
            return "none".to_string();
        }
        let mut value = vec![0; n as usize];
        assert_eq!(secretValue(name.as_ptr(), name.len() as u32, value.as_mut_ptr()), 0);
        String::from_utf8(value).unwrap()
    }
}

#[no_mangle]
pub extern "C" fn handle(event: u32) {
    let token = var("TOKEN").unwrap_or_default();
    println!("the token is {token} in Rust");
    let text = token + " " + &secret("TOKEN") + " " + &var("MODE").unwrap_or_default();
    let mut n = 0;
    assert_eq!(unsafe { eventHttpWrite(event, text.as_ptr(), text.len() as u32, &mut n) }, 0);
}

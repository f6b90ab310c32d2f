//! A guest in Rust, with the functions of the host declared by hand, under the names
//! and with the parameters that the Rust SDK has.
#![allow(non_snake_case)]

#[link(wasm_import_module = "taubyte/sdk")]
extern "C" {
    fn getEventType(event: u32, kind: *mut u32);
    fn getHttpEventMethodSize(event: u32, size: *mut u32) -> u32;
    fn getHttpEventMethod(event: u32, buf: *mut u8, size: u32) -> u32;
    fn getHttpEventHeadersSize(event: u32, size: *mut u32, key: *const u8, len: u32) -> u32;
    fn getHttpEventHeaders(event: u32, key: *const u8, len: u32, buf: *mut u8, size: u32) -> u32;
    fn getHttpEventRequestHeaderKeysSize(event: u32, size: *mut u32) -> u32;
    fn getHttpEventRequestHeaderKeys(event: u32, buf: *mut u8, size: u32) -> u32;
    fn readHttpEventBody(event: u32, buf: *mut u8, size: u32, n: *mut u32) -> u32;
    fn eventHttpWrite(event: u32, buf: *const u8, size: u32, n: *mut u32) -> u32;
    fn eventHttpRetCode(event: u32, code: u32) -> u32;
    fn newHttpClient(id: *mut u32) -> u32;
    fn newHttpRequest(client: u32, id: *mut u32) -> u32;
    fn setHttpRequestURL(client: u32, request: u32, url: *const u8, len: u32) -> u32;
    fn setHttpRequestMethod(client: u32, request: u32, method: u32) -> u32;
    fn setHttpRequestBody(client: u32, request: u32, data: *const u8, len: u32) -> u32;
    fn addHttpRequestHeader(client: u32, request: u32, key: *const u8, klen: u32, value: *const u8, vlen: u32) -> u32;
    fn deleteHttpRequestHeader(client: u32, request: u32, key: *const u8, len: u32) -> u32;
    fn getHttpRequestHeaderSize(client: u32, request: u32, key: *const u8, len: u32, size: *mut u32) -> u32;
    fn doHttpRequest(client: u32, request: u32) -> u32;
    fn readHttpResponseBody(client: u32, request: u32, buf: *mut u8, size: u32, n: *mut u32) -> u32;
    fn getHttpResponseHeaderSize(client: u32, request: u32, key: *const u8, len: u32, size: *mut u32) -> u32;
    fn getHttpResponseHeader(client: u32, request: u32, key: *const u8, len: u32, buf: *mut u8) -> u32;
    fn memoryViewNew(ptr: *const u8, len: u32, closable: u32, id: *mut u32) -> u32;
    fn memoryViewRead(id: u32, offset: u32, count: u32, buf: *mut u8, n: *mut u32) -> u32;
    fn memoryViewClose(id: u32);
}

/// Writes a text into the response.
fn write(event: u32, text: &[u8]) {
    let mut n = 0;
    let e = unsafe { eventHttpWrite(event, text.as_ptr(), text.len() as u32, &mut n) };
    assert!(e == 0 && n as usize == text.len());
}

/// Reads a stream to its end, where the last bytes may come with the errno 8.
fn read(mut next: impl FnMut(*mut u8, u32, *mut u32) -> u32) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let (mut buf, mut n) = ([0u8; 7], 0);
        let e = next(buf.as_mut_ptr(), 7, &mut n);
        all.extend_from_slice(&buf[..n as usize]);
        match e {
            0 => (),
            8 => return all,
            e => panic!("errno {}", e),
        }
    }
}

#[no_mangle]
pub fn http(event: u32) {
    unsafe {
        let mut kind = 0;
        getEventType(event, &mut kind);
        assert_eq!(kind, 1);
        let mut n = 0;
        assert_eq!(getHttpEventMethodSize(event, &mut n), 0);
        let mut method = vec![0; n as usize];
        assert_eq!(getHttpEventMethod(event, method.as_mut_ptr(), n), 0);
        assert_eq!(method, b"POST");

        assert_eq!(getHttpEventRequestHeaderKeysSize(event, &mut n), 0);
        let mut names = vec![0; n as usize];
        assert_eq!(getHttpEventRequestHeaderKeys(event, names.as_mut_ptr(), n), 0);
        assert_eq!(names.last(), Some(&0));
        assert!(names.split(|b| *b == 0).any(|name| name == b"X-Word"));
        assert_eq!(getHttpEventHeadersSize(event, &mut n, b"x-word".as_ptr(), 6), 0);
        let mut word = vec![0; n as usize];
        assert_eq!(getHttpEventHeaders(event, b"x-word".as_ptr(), 6, word.as_mut_ptr(), n), 0);

        let body = read(|buf, size, n| readHttpEventBody(event, buf, size, n));
        assert_eq!(eventHttpRetCode(event, 201), 0);
        write(event, &word);
        write(event, b": ");
        write(event, &body);
    }
}

/// Gets what is at the URL in the body: its buffers are gone before the request is sent.
#[no_mangle]
pub fn fetch(event: u32) {
    unsafe {
        let url = read(|buf, size, n| readHttpEventBody(event, buf, size, n));
        let (mut c, mut r) = (9, 9);
        assert_eq!(newHttpClient(&mut c), 0);
        assert_eq!(newHttpRequest(c, &mut r), 0);
        assert_eq!(setHttpRequestURL(c, r, url.as_ptr(), url.len() as u32), 0);
        assert_eq!(setHttpRequestMethod(c, r, 3), 0);
        assert_eq!(setHttpRequestMethod(c, r, 99), 14);
        {
            let mut body = b"by reference".to_vec();
            assert_eq!(setHttpRequestBody(c, r, body.as_ptr(), body.len() as u32), 0);
            body.fill(b'x');
        }
        assert_eq!(addHttpRequestHeader(c, r, b"x-sent".as_ptr(), 6, b"raw".as_ptr(), 3), 0);
        assert_eq!(addHttpRequestHeader(c, r, b"x-gone".as_ptr(), 6, b"raw".as_ptr(), 3), 0);
        assert_eq!(deleteHttpRequestHeader(c, r, b"X-Gone".as_ptr(), 6), 0);
        let mut n = 1;
        assert_eq!(getHttpRequestHeaderSize(c, r, b"x-gone".as_ptr(), 6, &mut n), 0);
        assert_eq!(n, 0);
        assert_eq!(doHttpRequest(c, r), 0);
        assert_eq!(getHttpResponseHeaderSize(c, r, b"x-got".as_ptr(), 5, &mut n), 0);
        let mut values = vec![0; n as usize];
        assert_eq!(getHttpResponseHeader(c, r, b"x-got".as_ptr(), 5, values.as_mut_ptr()), 0);
        assert_eq!(values, b"raw\0");
        write(event, &read(|buf, size, n| readHttpResponseBody(c, r, buf, size, n)));
    }
}

#[no_mangle]
pub fn views(event: u32) {
    unsafe {
        let (mut id, mut n) = (0, 0);
        assert_eq!(memoryViewNew(b"seen".as_ptr(), 4, 1, &mut id), 0);
        let mut buf = [0u8; 4];
        assert_eq!(memoryViewRead(id, 0, 4, buf.as_mut_ptr(), &mut n), 0);
        memoryViewClose(id);
        write(event, &buf);
    }
}

/// A panic traps: it costs this event alone.
#[no_mangle]
pub fn panics(_event: u32) {
    panic!("as asked");
}

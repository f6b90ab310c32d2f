// A guest in AssemblyScript, with the functions of the host declared by hand.

@external("taubyte/sdk", "eventHttpWrite")
declare function eventHttpWrite(event: u32, buf: usize, size: u32, n: usize): u32;
@external("taubyte/sdk", "eventHttpHeaderAdd")
declare function eventHttpHeaderAdd(event: u32, key: usize, keyLen: u32, value: usize, valueLen: u32): u32;
@external("taubyte/sdk", "getHttpEventQueryValueByNameSize")
declare function getHttpEventQueryValueByNameSize(event: u32, size: usize, key: usize, keyLen: u32): u32;
@external("taubyte/sdk", "getHttpEventQueryValueByName")
declare function getHttpEventQueryValueByName(event: u32, key: usize, keyLen: u32, buf: usize, size: u32): u32;
@external("taubyte/sdk", "selfProjectSize")
declare function selfProjectSize(size: usize): u32;
@external("taubyte/sdk", "selfProject")
declare function selfProject(buf: usize): u32;

// Runs when the module starts, whichever way that is.
const greeting = "hello ";
let started: u32 = 0;
started += 1;

function write(event: u32, buf: ArrayBuffer): void {
  const n = new ArrayBuffer(4);
  assert(eventHttpWrite(event, changetype<usize>(buf), buf.byteLength, changetype<usize>(n)) == 0);
}

export function handle(event: u32): u32 {
  assert(started == 1);
  const name = String.UTF8.encode("X-Made-By"), value = String.UTF8.encode("AssemblyScript");
  assert(eventHttpHeaderAdd(event, changetype<usize>(name), name.byteLength, changetype<usize>(value), value.byteLength) == 0);
  const key = String.UTF8.encode("name"), cell = new ArrayBuffer(4);
  assert(getHttpEventQueryValueByNameSize(event, changetype<usize>(cell), changetype<usize>(key), key.byteLength) == 0);
  const who = new ArrayBuffer(load<u32>(changetype<usize>(cell)));
  assert(getHttpEventQueryValueByName(event, changetype<usize>(key), key.byteLength, changetype<usize>(who), who.byteLength) == 0);
  assert(selfProjectSize(changetype<usize>(cell)) == 0);
  const project = new ArrayBuffer(load<u32>(changetype<usize>(cell)));
  assert(selfProject(changetype<usize>(project)) == 0);
  write(event, String.UTF8.encode(greeting));
  write(event, who);
  write(event, String.UTF8.encode(" of "));
  write(event, project);
  return 0;
}

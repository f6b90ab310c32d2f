// What a module prints, and why it aborts, goes to the log of its function.

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: u32, vectors: usize, count: u32, written: usize): u32;

function print(fd: u32, text: string): void {
  const line = String.UTF8.encode(text + "\n");
  const vector = memory.data(12);
  store<u32>(vector, <u32>changetype<usize>(line));
  store<u32>(vector, <u32>line.byteLength, 4);
  fd_write(fd, vector, 1, vector + 8);
}

export namespace taubyte_console {
  export function assert<T>(condition: T, message: string = ""): void {
    if (!condition) print(2, "Assertion failed: " + message);
  }
  export function log(message: string = ""): void {
    print(1, message);
  }
  export function debug(message: string = ""): void {
    print(1, message);
  }
  export function info(message: string = ""): void {
    print(1, message);
  }
  export function warn(message: string = ""): void {
    print(2, message);
  }
  export function error(message: string = ""): void {
    print(2, message);
  }
}

export function taubyte_abort(message: string | null = "", file: string | null = "", line: u32 = 0, column: u32 = 0): void {
  print(2, "abort: " + (message ? message : "") + " in " + (file ? file : "") + "(" + line.toString() + ":" + column.toString() + ")");
  unreachable();
}

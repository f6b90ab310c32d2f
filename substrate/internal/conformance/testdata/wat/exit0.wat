;; Main ends with exit code 0: a success, and the instance goes on to serve.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "taubyte/sdk" "eventHttpWrite" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (i32.store8 (i32.const 16) (i32.const 49)) (call $exit (i32.const 0)) unreachable)
  (func (export "handle") (param $e i32) (result i32)
    (call $write (local.get $e) (i32.const 16) (i32.const 1) (i32.const 8))))

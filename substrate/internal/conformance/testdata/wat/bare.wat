;; Neither _initialize nor _start, and an entry point without a result.
(module
  (import "taubyte/sdk" "eventHttpWrite" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "1")
  (func (export "handle") (param $e i32)
    (drop (call $write (local.get $e) (i32.const 16) (i32.const 1) (i32.const 8)))))

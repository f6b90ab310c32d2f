;; The documented way to fail: the body first, then headers, which come too late, and the status, which does not.
(module
  (import "taubyte/sdk" "eventHttpWrite" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "taubyte/sdk" "eventHttpRetCode" (func $code (param i32 i32) (result i32)))
  (import "taubyte/sdk" "eventHttpHeaderAdd" (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "oops")
  (func (export "handle") (param $e i32) (result i32)
    (drop (call $write (local.get $e) (i32.const 16) (i32.const 4) (i32.const 8)))
    (drop (call $header (local.get $e) (i32.const 16) (i32.const 4) (i32.const 16) (i32.const 4)))
    (drop (call $code (local.get $e) (i32.const 500)))
    (i32.const 1)))

;; The start section of wasm itself runs, before everything else.
(module
  (import "taubyte/sdk" "eventHttpWrite" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $first (i32.store8 (i32.const 16) (i32.const 48)))
  (start $first)
  (func (export "_initialize") (i32.store8 (i32.const 16) (i32.add (i32.load8_u (i32.const 16)) (i32.const 1))))
  (func (export "handle") (param $e i32) (result i32)
    (call $write (local.get $e) (i32.const 16) (i32.const 1) (i32.const 8))))

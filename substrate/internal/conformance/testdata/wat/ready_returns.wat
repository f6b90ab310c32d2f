;; A command whose main returns right after it has said that it is ready.
(module
  (import "env" "_ready" (func $ready))
  (import "taubyte/sdk" "eventHttpWrite" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (i32.store8 (i32.const 16) (i32.const 49)) (call $ready))
  (func (export "handle") (param $e i32) (result i32)
    (call $write (local.get $e) (i32.const 16) (i32.const 1) (i32.const 8))))

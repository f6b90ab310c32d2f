;; A command that says that it is ready, and whose main never returns.
(module
  (import "env" "_ready" (func $ready))
  (import "taubyte/sdk" "eventHttpWrite" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store8 (i32.const 16) (i32.const 49))
    (call $ready)
    (i32.store8 (i32.const 16) (i32.const 50))
    (loop $forever (br $forever)))
  (func (export "handle") (param $e i32) (result i32)
    (call $write (local.get $e) (i32.const 16) (i32.const 1) (i32.const 8))))

;; A reactor: _initialize is called once, before the first event. It wins over _start.
(module
  (import "taubyte/sdk" "eventHttpWrite" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "0 1 2 ")
  (global $inits (mut i32) (i32.const 0))
  (func (export "_initialize") (global.set $inits (i32.add (global.get $inits) (i32.const 1))))
  (func (export "_start") unreachable)
  (func (export "handle") (param $e i32) (result i32)
    (call $write (local.get $e) (i32.add (i32.const 16) (i32.mul (global.get $inits) (i32.const 2))) (i32.const 1) (i32.const 8))))

;; A function that imports from a library, by the library's name. It exports a function
;; of the name fifoClose, as guests of TinyGo do, which is no entry point.
(module
  (import "libraries/sums" "add" (func $add (param i32 i32) (result i32)))
  (import "taubyte/sdk" "eventHttpWrite" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "fifoClose") (param i32) unreachable)
  (func (export "handle") (param $e i32) (result i32)
    (i32.store8 (i32.const 16) (call $add (i32.const 40) (i32.const 9)))
    (call $write (local.get $e) (i32.const 16) (i32.const 1) (i32.const 8))))

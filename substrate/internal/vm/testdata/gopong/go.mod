module gopong

go 1.24

module ping

go 1.24

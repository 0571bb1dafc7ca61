insert into movements (transfer, account, cents, log_offset) values ($1, $2, $3, $4)

insert into movements (transfer, account, cents, log_offset) values (?, ?, ?, ?)

update accounts set cents = cents + $1, movements = movements + 1 where account = $2

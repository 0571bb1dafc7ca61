select movements from accounts where account = $1

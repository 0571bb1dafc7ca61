select cents from accounts where account = ?
